//! `alerts.notifiers`: who is told of alerts, and how they are reached.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::config::cursor::{Cursor, Section, listing};
use crate::config::receiver::{self, Http, UrlSource};
use crate::config::receiver_url::ReceiverUrl;
use redis_stream_core::secret::Secret;

const REPEAT_INTERVAL: Duration = Duration::from_secs(4 * 60 * 60);
/// Below this a reminder is a nuisance.
const SHORTEST_REPEAT_INTERVAL: Duration = Duration::from_secs(60);
const MAX_ALERTS: u32 = 20;
/// Keeps a message to a size that receivers take.
const MOST_ALERTS: u32 = 1000;

const KINDS: [&str; 3] = ["alertmanager", "webhook", "slack"];

/// One item of `alerts.notifiers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Notifier {
    /// What rules, logs and metrics call it; unique.
    pub name: String,
    /// Who is told.
    pub receiver: Receiver,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Receiver {
    /// `alertmanager`.
    Alertmanager(Alertmanager),
    /// `webhook`.
    Webhook(Webhook),
    /// `slack`.
    Slack(Slack),
}

/// `alertmanager`: each of them is told of every alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alertmanager {
    /// Where they are, with the path that their API lies below; at least one.
    pub urls: Vec<ReceiverUrl>,
    /// Whether each address behind the name of a host is an Alertmanager of its own. If not, the first that
    /// can be connected to is taken.
    pub resolve_all: bool,
    /// How they are reached.
    pub http: Http,
}

/// `webhook`: a receiver of Alertmanager's webhook body.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Where it is.
    pub url: UrlSource,
    /// Added to each request.
    pub headers: BTreeMap<String, Secret>,
    /// Its messages.
    pub messages: Messages,
    /// How it is reached.
    pub http: Http,
}

/// `slack`: an incoming webhook of Slack, or of what takes the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Slack {
    /// Where it is.
    pub url: UrlSource,
    /// Its messages.
    pub messages: Messages,
    /// How it is reached.
    pub http: Http,
}

/// Messages that speak of many alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Messages {
    /// After that time a message is sent again, if its alerts still fire.
    pub repeat_interval: Duration,
    /// Alerts that a message shows; of the rest it tells the number.
    pub max_alerts: usize,
}

/// Reads `alerts.notifiers`. Those that are wrong are left out.
pub(super) fn read_all(list: &Cursor<'_>, folder: &Path) -> Vec<Notifier> {
    let items = list.items().into_iter().flatten();
    let drafts: Vec<_> = items.map(|item| item.section(|section| read(section, &item, folder))).collect();
    refuse_duplicate_names(&drafts);
    drafts.into_iter().filter_map(|draft| draft.notifier).collect()
}

/// A notifier as far as it could be read, with the place that faults between notifiers are laid to.
struct Draft<'t> {
    name_key: Cursor<'t>,
    name: Option<String>,
    notifier: Option<Notifier>,
}

fn read<'t>(section: &Section<'t>, item: &Cursor<'_>, folder: &Path) -> Draft<'t> {
    let name_key = section.key("name");
    let name = name(&name_key);
    let kinds = KINDS.map(|kind| section.key(kind));
    let given: Vec<_> = kinds.iter().filter(|key| key.is_given()).collect();
    match given.as_slice() {
        [] => item.fault(format_args!("no receiver; expected {}", listing(&KINDS))),
        [first, others @ ..] => {
            for other in others {
                other.fault(format_args!("{} is there too; expected one of them", first.label()));
            }
        }
    }
    let [alertmanager_key, webhook_key, slack_key] = &kinds;
    let alertmanager = given_section(alertmanager_key, |section| alertmanager(section, folder));
    let webhook = given_section(webhook_key, |section| webhook(section, folder));
    let slack = given_section(slack_key, |section| slack(section, folder));
    let receiver = alertmanager.map(Receiver::Alertmanager);
    let receiver = receiver.or(webhook.map(Receiver::Webhook)).or(slack.map(Receiver::Slack));
    let notifier = name.clone().zip(receiver).map(|(name, receiver)| Notifier { name, receiver });
    Draft { name_key, name, notifier }
}

fn name(key: &Cursor<'_>) -> Option<String> {
    if !key.is_given() {
        key.fault("missing; expected a name");
        return None;
    }
    let name = key.text()?.value;
    if name.is_empty() {
        key.fault("empty; expected a name");
    }
    Some(name)
}

/// Reads a map, if it is there. What is missing in one that is not there is no fault.
fn given_section<'t, T>(key: &Cursor<'t>, read: impl FnOnce(&Section<'t>) -> Option<T>) -> Option<T> {
    if key.is_given() { key.section(read) } else { None }
}

fn alertmanager(section: &Section<'_>, folder: &Path) -> Option<Alertmanager> {
    let urls_key = section.key("urls");
    if !urls_key.is_given() {
        urls_key.fault("missing; expected a list of at least one URL such as http://alertmanager:9093");
    }
    if urls_key.is_an_empty_list() {
        urls_key.fault("an empty list; expected at least one URL");
    }
    let items = urls_key.items().unwrap_or_default();
    let urls: Vec<_> = items.iter().filter_map(|item| receiver::url(item, ReceiverUrl::parse_base)).collect();
    let resolve_all = section.key("resolve_all").boolean().unwrap_or(true);
    let with_credentials = urls.iter().any(|url| url.credentials.is_some()).then_some(&urls_key);
    let authorization = receiver::authorization(section, with_credentials, folder);
    let http = receiver::http(section, authorization, folder);
    (!urls.is_empty()).then_some(Alertmanager { urls, resolve_all, http })
}

fn webhook(section: &Section<'_>, folder: &Path) -> Option<Webhook> {
    let url_key = section.key("url");
    let url = receiver::url_source(&url_key, &section.key("url_file"), folder);
    let with_credentials = matches!(&url, Some(UrlSource::Url(url)) if url.credentials.is_some());
    let authorization = receiver::authorization(section, with_credentials.then_some(&url_key), folder);
    let headers = receiver::headers(&section.key("headers"), authorization.as_ref());
    let messages = messages(section);
    let http = receiver::http(section, authorization, folder);
    Some(Webhook { url: url?, headers, messages, http })
}

fn slack(section: &Section<'_>, folder: &Path) -> Option<Slack> {
    let url = receiver::url_source(&section.key("webhook_url"), &section.key("webhook_url_file"), folder);
    let messages = messages(section);
    let http = receiver::http(section, None, folder);
    Some(Slack { url: url?, messages, http })
}

fn messages(section: &Section<'_>) -> Messages {
    let max_alerts = section.key("max_alerts").number(1..=MOST_ALERTS).unwrap_or(MAX_ALERTS);
    Messages {
        repeat_interval: section
            .key("repeat_interval")
            .duration(SHORTEST_REPEAT_INTERVAL)
            .unwrap_or(REPEAT_INTERVAL),
        max_alerts: max_alerts as usize,
    }
}

fn refuse_duplicate_names(drafts: &[Draft<'_>]) {
    for (at, draft) in drafts.iter().enumerate() {
        let Some(name) = &draft.name else { continue };
        if let Some(first) = drafts[..at].iter().position(|other| other.name.as_ref() == Some(name)) {
            let first = drafts[first].name_key.label();
            draft.name_key.fault(format_args!("the same as {first}; expected a name of its own"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;
    use crate::config::Password;
    use crate::config::load::from_text;
    use crate::config::receiver::Authorization;
    use redis_stream_core::tls::Tls;
    use redis_stream_core::tls::{ClientCertificate, Verification};

    fn load_in(folder: &Path, notifiers: &str) -> Result<Config, String> {
        let text = format!("targets: [{{url: 'redis://cache'}}]\nalerts: {{notifiers: [{notifiers}]}}");
        let environment = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
        from_text("f.yaml", &text, folder, &environment).map_err(|error| error.to_string())
    }

    fn load(notifiers: &str) -> Result<Config, String> {
        load_in(Path::new("/nowhere"), notifiers)
    }

    /// Checks the faults of `alerts.notifiers`, each without what they all begin with.
    #[track_caller]
    fn bad(notifiers: &str, faults: &[&str]) {
        let message = load(notifiers).expect_err("this is accepted");
        let start = "f.yaml: alerts.notifiers";
        let lines: Vec<_> = message.lines().map(|line| line.strip_prefix(start).unwrap_or(line)).collect();
        assert_eq!(lines, faults, "{notifiers}");
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_name_and_a_url_are_enough() {
        let config = load(
            "{name: a, alertmanager: {urls: ['http://am-1:9093', 'https://am-2/prefix']}},
             {name: b, webhook: {url: 'http://hook/x'}},
             {name: c, slack: {webhook_url: '${UNSET:-https://hooks.slack.com/x}'}}",
        )
        .unwrap();
        let http = Http { authorization: None, tls: Tls::default(), timeout: Duration::from_secs(10) };
        let messages = Messages { repeat_interval: Duration::from_secs(14_400), max_alerts: 20 };
        let url = |text| ReceiverUrl::parse(text).unwrap();
        let receivers = [
            Receiver::Alertmanager(Alertmanager {
                urls: vec![url("http://am-1:9093"), url("https://am-2/prefix")],
                resolve_all: true,
                http: http.clone(),
            }),
            Receiver::Webhook(Webhook {
                url: UrlSource::Url(url("http://hook/x")),
                headers: BTreeMap::new(),
                messages,
                http: http.clone(),
            }),
            Receiver::Slack(Slack { url: UrlSource::Url(url("https://hooks.slack.com/x")), messages, http }),
        ];
        let notifiers: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .zip(receivers)
            .map(|(name, receiver)| Notifier { name: name.to_owned(), receiver })
            .collect();
        assert_eq!(config.alerts.notifiers, notifiers);
    }

    #[test]
    fn all_keys_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let authority = rcgen::generate_simple_self_signed(["hook".to_owned()]).unwrap();
        for (name, text) in [
            ("cert", authority.cert.pem()),
            ("key", authority.signing_key.serialize_pem()),
            ("url", "https://hook/hunter2\n".to_owned()),
            ("token", "hunter2\n".to_owned()),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let config = load_in(
            folder.path(),
            "{name: a, webhook: {url_file: url, bearer_token_file: token, headers: {X-Key: '${SECRET}'}, timeout: 1s,
              tls: {ca_file: cert, cert_file: cert, key_file: key, server_name: hook, insecure_skip_verify: true},
              repeat_interval: 1m, max_alerts: 1}},
             {name: b, alertmanager: {urls: ['http://am'], resolve_all: false, basic_auth: {username: u, password_file: token}}}",
        )
        .unwrap();
        let [a, b] = &config.alerts.notifiers[..] else { panic!("not two") };
        let Receiver::Webhook(webhook) = &a.receiver else { panic!("{a:?}") };
        assert_eq!(webhook.headers, BTreeMap::from([("x-key".to_owned(), Secret::new("hunter2"))]));
        assert_eq!(webhook.messages, Messages { repeat_interval: Duration::from_secs(60), max_alerts: 1 });
        let path = |name| folder.path().join(name);
        assert_eq!(
            webhook.http,
            Http {
                authorization: Some(Authorization::Bearer(Password::File(path("token")))),
                tls: Tls {
                    ca_file: Some(path("cert")),
                    certificate: Some(ClientCertificate { cert_file: path("cert"), key_file: path("key") }),
                    server_name: Some("hook".to_owned()),
                    verification: Verification::Skipped,
                },
                timeout: Duration::from_secs(1),
            }
        );
        let Receiver::Alertmanager(alertmanager) = &b.receiver else { panic!("{b:?}") };
        assert!(!alertmanager.resolve_all);
        let password = Password::File(path("token"));
        let basic = Authorization::Basic { username: "u".to_owned(), password };
        assert_eq!(alertmanager.http.authorization, Some(basic));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_missing_or_there_twice_is_said() {
        bad(
            "{}, {name: ''}, {name: a, webhook: {url: 'http://h'}, slack: {}}, {name: b, pagerduty: {}}",
            &[
                "[0].name: missing; expected a name",
                "[0]: no receiver; expected alertmanager, webhook or slack",
                "[1].name: empty; expected a name",
                "[1]: no receiver; expected alertmanager, webhook or slack",
                "[2].slack: alerts.notifiers[2].webhook is there too; expected one of them",
                "[2].slack.webhook_url: missing; expected a URL here or in alerts.notifiers[2].slack.webhook_url_file",
                "[3]: no receiver; expected alertmanager, webhook or slack",
                "[3].pagerduty: unknown key; expected name, alertmanager, webhook or slack",
            ],
        );
        bad(
            "{name: a, slack: {webhook_url: 'http://h'}}, {name: a, webhook: {url: 'http://h', url_file: x}},
             {name: b, alertmanager: {}}, {name: c, alertmanager: {urls: []}}",
            &[
                "[1].webhook.url_file: alerts.notifiers[1].webhook.url is there too; expected one of them",
                "[2].alertmanager.urls: missing; expected a list of at least one URL such as http://alertmanager:9093",
                "[3].alertmanager.urls: an empty list; expected at least one URL",
                "[1].name: the same as alerts.notifiers[0].name; expected a name of its own",
            ],
        );
    }

    #[test]
    fn urls_and_files_are_judged_without_quoting_them() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("url"), "hunter2").unwrap();
        let message = load_in(
            folder.path(),
            "{name: a, alertmanager: {urls: ['hunter2', 'http://am/?hunter2', 7, 'redis://am']}},
             {name: b, webhook: {url_file: url}}, {name: c, slack: {webhook_url_file: gone}},
             {name: d, webhook: {url: 'http://h', tls: {ca_file: url, cert_file: url, key_file: url}}}",
        )
        .unwrap_err();
        let form = "expected http[s]://[user:password@]host[:port][/path]";
        let folder = folder.path().display();
        let faults = [
            format!("[0].alertmanager.urls[0]: not a URL; {form}"),
            "[0].alertmanager.urls[1]: a query (?); expected the address of the server alone, with a path where it has one".to_owned(),
            "[0].alertmanager.urls[2]: found a number; expected text (put it in quotes)".to_owned(),
            format!("[0].alertmanager.urls[3]: not an http:// or https:// URL; {form}"),
            format!("[1].webhook.url_file: in the file: not a URL; {form}"),
            format!("[2].slack.webhook_url_file: cannot read {folder}/gone: No such file or directory (os error 2); expected a readable file"),
            "[3].webhook.tls.cert_file: no certificate in the file; expected PEM".to_owned(),
            "[3].webhook.tls.key_file: no private key in the file; expected PEM".to_owned(),
            "[3].webhook.tls.ca_file: no certificate in the file; expected PEM".to_owned(),
        ]
        .map(|fault| format!("f.yaml: alerts.notifiers{fault}"));
        assert_eq!(message.lines().collect::<Vec<_>>(), faults);
    }

    #[test]
    fn credentials_are_in_one_place() {
        bad(
            "{name: a, alertmanager: {urls: ['http://u:hunter2@am'], basic_auth: {username: u, password: hunter2}}},
             {name: b, webhook: {url: 'http://u:hunter2@h', bearer_token_file: /dev/null}},
             {name: c, webhook: {url: 'http://h', basic_auth: {username: 'a:b', password: hunter2, password_file: /dev/null},
              bearer_token_file: /dev/null, headers: {Authorization: hunter2}}},
             {name: d, webhook: {url: 'http://h', basic_auth: {}}}",
            &[
                "[0].alertmanager.basic_auth: alerts.notifiers[0].alertmanager.urls has credentials too; expected them in one place",
                "[1].webhook.bearer_token_file: alerts.notifiers[1].webhook.url has credentials too; expected them in one place",
                "[2].webhook.bearer_token_file: alerts.notifiers[2].webhook.basic_auth is there too; expected one of them",
                "[2].webhook.basic_auth.username: a colon, which separates user and password; expected none",
                "[2].webhook.basic_auth.password_file: alerts.notifiers[2].webhook.basic_auth.password is there too; expected one of them",
                "[2].webhook.headers.Authorization: there is basic_auth or bearer_token_file too; expected one of them",
                "[3].webhook.basic_auth.username: missing; expected a user",
                "[3].webhook.basic_auth.password: missing; expected a password here or in alerts.notifiers[3].webhook.basic_auth.password_file",
            ],
        );
    }

    #[test]
    fn headers_tls_and_numbers_are_judged() {
        bad(
            "{name: a, webhook: {url: 'http://h', max_alerts: 0, repeat_interval: 1s, timeout: soon,
              headers: {'a b': x, Host: x, X-A: \"hunter2\\r\\nX-B: 1\", x-a: y, X-C: 7},
              tls: {cert_file: /gone, server_name: 'a b', ca_fil: x}}}",
            &[
                "[0].webhook.headers.a b: not the name of a header; expected letters, digits and -",
                "[0].webhook.headers.Host: a header that each request has anyhow; expected another",
                "[0].webhook.headers.X-A: a control character, such as the end of a line; expected one line of text",
                "[0].webhook.headers.x-a: there already, in other letters; expected it once",
                "[0].webhook.headers.X-C: found a number; expected text (put it in quotes)",
                "[0].webhook.max_alerts: found \"0\"; expected a whole number from 1 to 1000",
                "[0].webhook.repeat_interval: too short; expected at least 1m",
                "[0].webhook.tls.key_file: missing; expected it together with alerts.notifiers[0].webhook.tls.cert_file",
                "[0].webhook.tls.cert_file: cannot read /gone: No such file or directory (os error 2); expected a readable file",
                "[0].webhook.tls.server_name: not the name of a host; expected one",
                "[0].webhook.tls.ca_fil: unknown key; did you mean ca_file?",
                "[0].webhook.timeout: found \"soon\"; expected a duration such as 10s or 1m 30s",
            ],
        );
    }
}
