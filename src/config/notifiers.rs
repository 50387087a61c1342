//! `alerts.notifiers`: the receivers of alerts, and how to reach them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Password;
use crate::config::cursor::{Cursor, Section, listing};
use crate::config::http_receiver::{self, Authorization, HttpClientConfig, UrlSource};
use crate::http_url::HttpUrl;
use redis_stream_core::secret::Secret;

const REPEAT_INTERVAL: Duration = Duration::from_secs(4 * 60 * 60);
/// Below this a reminder is a nuisance.
const SHORTEST_REPEAT_INTERVAL: Duration = Duration::from_secs(60);
const MAX_ALERTS: u32 = 20;
/// Keeps a notification to a size that receivers accept.
const MOST_ALERTS: u32 = 1000;
const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

const INTEGRATION_KEY: &str = "the integration key of a PagerDuty service";

type Reader = fn(&Section<'_>) -> Option<Receiver>;

/// The keys of receivers, each with the reader of its section.
const RECEIVERS: [(&str, Reader); 4] =
    [("alertmanager", alertmanager), ("webhook", webhook), ("slack", slack), ("pagerduty", pagerduty)];

/// One item of `alerts.notifiers`.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifierConfig {
    /// The name in rules, logs and metrics; unique.
    pub name: String,
    /// The receiver and its settings.
    pub receiver: Receiver,
}

/// A receiver, by how it wants alerts.
#[derive(Clone, Debug, PartialEq)]
pub enum Receiver {
    /// Receives single alerts, repeatedly, and groups them itself: `alertmanager`.
    Alertmanager(Alertmanager),
    /// Receives aggregation groups, each in one POST.
    Integration(Integration),
}

/// `alertmanager`: every one of them receives every alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alertmanager {
    /// The URLs below which their API lies; at least one.
    pub urls: Vec<HttpUrl>,
    /// True if each address of a host name is a separate Alertmanager; otherwise the first that accepts a connection is
    /// used.
    pub resolve_all: bool,
    /// HTTP settings.
    pub http: HttpClientConfig,
}

/// A receiver of aggregation groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Integration {
    /// The service, which determines the payload.
    pub kind: IntegrationKind,
    /// The URL of each request.
    pub url: UrlSource,
    /// Headers added to each request.
    pub headers: BTreeMap<String, Secret>,
    /// Time after which a notification is repeated if its alerts still fire.
    pub repeat_interval: Duration,
    /// Most alerts in one notification; the rest is counted.
    pub max_alerts: usize,
    /// HTTP settings.
    pub http: HttpClientConfig,
}

/// The service that an integration is for.
#[derive(Clone, Debug, PartialEq)]
pub enum IntegrationKind {
    /// `webhook`: accepts the body of Alertmanager's webhooks.
    Webhook,
    /// `slack`: an incoming webhook of Slack.
    Slack,
    /// `pagerduty`: PagerDuty's Events API, version 2.
    PagerDuty {
        /// The integration key.
        routing_key: Password,
    },
}

impl Receiver {
    /// Returns the HTTP settings.
    pub fn http(&self) -> &HttpClientConfig {
        match self {
            Self::Alertmanager(settings) => &settings.http,
            Self::Integration(settings) => &settings.http,
        }
    }

    /// Returns true if the receiver shows one alert once, even if two processes send it.
    pub fn deduplicates(&self) -> bool {
        match self {
            Self::Alertmanager(_) => true,
            Self::Integration(Integration { kind, .. }) => match kind {
                IntegrationKind::PagerDuty { .. } => true,
                IntegrationKind::Webhook | IntegrationKind::Slack => false,
            },
        }
    }
}

impl IntegrationKind {
    /// Returns the integration key, if the service has one in the payload.
    pub fn routing_key(&self) -> Option<&Password> {
        match self {
            Self::PagerDuty { routing_key } => Some(routing_key),
            Self::Webhook | Self::Slack => None,
        }
    }
}

/// Reads `alerts.notifiers`. Invalid ones are left out.
pub(super) fn read_all(list: &Cursor<'_>) -> Vec<NotifierConfig> {
    let items = list.items().into_iter().flatten();
    let drafts: Vec<_> = items.map(|item| item.section(|section| read(section, &item))).collect();
    refuse_duplicate_names(&drafts);
    drafts.into_iter().filter_map(|draft| draft.notifier).collect()
}

/// A notifier as far as it could be read, with the key for the fault of a duplicate name.
struct Draft<'t> {
    name_key: Cursor<'t>,
    name: Option<String>,
    notifier: Option<NotifierConfig>,
}

fn read<'t>(section: &Section<'t>, item: &Cursor<'_>) -> Draft<'t> {
    let name_key = section.key("name");
    let name = name(&name_key);
    let keys = RECEIVERS.map(|(kind, reader)| (section.key(kind), reader));
    let given: Vec<_> = keys.iter().map(|(key, _)| key).filter(|key| key.is_given()).collect();
    match given.as_slice() {
        [] => {
            item.fault(format_args!("no receiver; expected {}", listing(&RECEIVERS.map(|(kind, _)| kind))));
        }
        [first, others @ ..] => {
            for other in others {
                other.refuse_beside(first);
            }
        }
    }
    let receivers: Vec<_> = keys.iter().filter_map(|(key, read)| key.given_section(read)).collect();
    let receiver = receivers.into_iter().next();
    let notifier = name.clone().zip(receiver).map(|(name, receiver)| NotifierConfig { name, receiver });
    Draft { name_key, name, notifier }
}

fn name(key: &Cursor<'_>) -> Option<String> {
    key.require("a name");
    key.filled_text("a name")
}

fn alertmanager(section: &Section<'_>) -> Option<Receiver> {
    let urls_key = section.key("urls");
    urls_key.require("a list of at least one URL such as http://alertmanager:9093");
    urls_key.require_items("at least one URL");
    let items = urls_key.items().unwrap_or_default();
    let urls: Vec<_> =
        items.iter().filter_map(|item| http_receiver::url(item, HttpUrl::parse_base)).collect();
    let resolve_all = section.key("resolve_all").boolean().unwrap_or(true);
    let with_credentials = urls.iter().any(|url| url.credentials.is_some()).then_some(&urls_key);
    let authorization = http_receiver::authorization(section, with_credentials);
    let http = http_receiver::http(section, authorization);
    (!urls.is_empty()).then_some(Receiver::Alertmanager(Alertmanager { urls, resolve_all, http }))
}

fn webhook(section: &Section<'_>) -> Option<Receiver> {
    let url_key = section.key("url");
    let url = http_receiver::url_source(&url_key, &section.key("url_file"));
    let with_credentials = matches!(&url, Some(UrlSource::Url(url)) if url.credentials.is_some());
    let authorization = http_receiver::authorization(section, with_credentials.then_some(&url_key));
    let headers = http_receiver::headers(&section.key("headers"), authorization.as_ref());
    let max_alerts = max_alerts(section);
    let integration = integration(section, Some(IntegrationKind::Webhook), url, authorization)?;
    Some(Receiver::Integration(Integration { headers, max_alerts, ..integration }))
}

fn slack(section: &Section<'_>) -> Option<Receiver> {
    let url = http_receiver::url_source(&section.key("webhook_url"), &section.key("webhook_url_file"));
    let max_alerts = max_alerts(section);
    let integration = integration(section, Some(IntegrationKind::Slack), url, None)?;
    Some(Receiver::Integration(Integration { max_alerts, ..integration }))
}

/// Each group is one alert.
fn pagerduty(section: &Section<'_>) -> Option<Receiver> {
    let (key, file_key) = (section.key("routing_key"), section.key("routing_key_file"));
    let routing_key = http_receiver::secret(&key, &file_key, INTEGRATION_KEY);
    if file_key.is_given()
        && let Some(Ok(key)) = routing_key.as_ref().map(Password::read)
    {
        let key = key.expose().trim();
        http_receiver::require_line(&file_key, key, |key| !key.contains(char::is_control), INTEGRATION_KEY);
    }
    let url_key = section.key("url");
    let url = if url_key.is_given() {
        http_receiver::url(&url_key, HttpUrl::parse)
    } else {
        HttpUrl::parse(PAGERDUTY_URL).ok()
    };
    let kind = routing_key.map(|routing_key| IntegrationKind::PagerDuty { routing_key });
    integration(section, kind, url.map(UrlSource::Url), None).map(Receiver::Integration)
}

/// Reads the settings that all integrations have. Without others, each notification is about one alert.
fn integration(
    section: &Section<'_>,
    kind: Option<IntegrationKind>,
    url: Option<UrlSource>,
    authorization: Option<Authorization>,
) -> Option<Integration> {
    let repeat_interval =
        section.key("repeat_interval").duration(SHORTEST_REPEAT_INTERVAL).unwrap_or(REPEAT_INTERVAL);
    let http = http_receiver::http(section, authorization);
    let (headers, max_alerts) = (BTreeMap::new(), 1);
    Some(Integration { kind: kind?, url: url?, headers, repeat_interval, max_alerts, http })
}

fn max_alerts(section: &Section<'_>) -> usize {
    section.key("max_alerts").number(1..=MOST_ALERTS).unwrap_or(MAX_ALERTS) as usize
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
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::config::load::from_text;
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
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        fs::write(&key, "hunter2\n").unwrap();
        let config = load_in(
            folder.path(),
            "{name: a, alertmanager: {urls: ['http://am-1:9093', 'https://am-2/prefix']}},
             {name: b, webhook: {url: 'http://hook/x'}},
             {name: c, slack: {webhook_url: '${UNSET:-https://hooks.slack.com/x}'}},
             {name: d, pagerduty: {routing_key_file: key}}",
        )
        .unwrap();
        let http =
            HttpClientConfig { authorization: None, tls: Tls::default(), timeout: Duration::from_secs(10) };
        let integration = |kind, url, max_alerts| {
            Receiver::Integration(Integration {
                kind,
                url: UrlSource::Url(HttpUrl::parse(url).unwrap()),
                headers: BTreeMap::new(),
                repeat_interval: Duration::from_secs(14_400),
                max_alerts,
                http: http.clone(),
            })
        };
        let url = |text| HttpUrl::parse(text).unwrap();
        let receivers = [
            Receiver::Alertmanager(Alertmanager {
                urls: vec![url("http://am-1:9093"), url("https://am-2/prefix")],
                resolve_all: true,
                http: http.clone(),
            }),
            integration(IntegrationKind::Webhook, "http://hook/x", 20),
            integration(IntegrationKind::Slack, "https://hooks.slack.com/x", 20),
            integration(
                IntegrationKind::PagerDuty { routing_key: Password::File(key) },
                "https://events.pagerduty.com/v2/enqueue",
                1,
            ),
        ];
        let notifiers: Vec<_> = ["a", "b", "c", "d"]
            .into_iter()
            .zip(receivers)
            .map(|(name, receiver)| NotifierConfig { name: name.to_owned(), receiver })
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
             {name: b, alertmanager: {urls: ['http://am'], resolve_all: false, basic_auth: {username: u, password_file: token}}},
             {name: c, pagerduty: {routing_key_file: token, url: 'http://eu/x', repeat_interval: 1h, timeout: 2s,
              tls: {ca_file: cert}}}",
        )
        .unwrap();
        let [a, b, c] = &config.alerts.notifiers[..] else { panic!("not three") };
        let Receiver::Integration(webhook) = &a.receiver else { panic!("{a:?}") };
        assert_eq!(webhook.headers, BTreeMap::from([("x-key".to_owned(), Secret::new("hunter2"))]));
        assert_eq!((webhook.repeat_interval, webhook.max_alerts), (Duration::from_secs(60), 1));
        let path = |name| folder.path().join(name);
        assert_eq!(
            webhook.http,
            HttpClientConfig {
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
        let Receiver::Integration(pagerduty) = &c.receiver else { panic!("{c:?}") };
        assert_eq!(pagerduty.url, UrlSource::Url(HttpUrl::parse("http://eu/x").unwrap()));
        assert_eq!(pagerduty.repeat_interval, Duration::from_secs(3_600));
        assert_eq!(
            (&pagerduty.http.tls.ca_file, pagerduty.http.timeout),
            (&Some(path("cert")), Duration::from_secs(2))
        );
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn missing_and_duplicate_keys_are_faults() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        let empty = empty.path().display();
        bad(
            &format!("{{}}, {{name: ''}}, {{name: a, webhook: {{url: 'http://h'}}, slack: {{}}}}, {{name: b, pager: {{}}}},
             {{name: c, pagerduty: {{}}}}, {{name: d, pagerduty: {{routing_key_file: {empty}, url: 'hunter2', max_alerts: 1}}}}"),
            &[
                "[0].name: missing; expected a name",
                "[0]: no receiver; expected alertmanager, webhook, slack or pagerduty",
                "[1].name: empty; expected a name",
                "[1]: no receiver; expected alertmanager, webhook, slack or pagerduty",
                "[2].slack: alerts.notifiers[2].webhook is there too; expected one of them",
                "[2].slack.webhook_url: missing; expected a URL here or in alerts.notifiers[2].slack.webhook_url_file",
                "[3]: no receiver; expected alertmanager, webhook, slack or pagerduty",
                "[3]: unknown key, number 2 in the map; expected name, alertmanager, webhook, slack or pagerduty",
                "[4].pagerduty.routing_key: missing; expected the integration key of a PagerDuty service here or in alerts.notifiers[4].pagerduty.routing_key_file",
                "[5].pagerduty.routing_key_file: an empty file; expected the integration key of a PagerDuty service",
                "[5].pagerduty.url: not a URL; expected http[s]://[user:password@]host[:port][/path]",
                "[5].pagerduty: unknown key, number 3 in the map; expected routing_key, routing_key_file, url, repeat_interval, tls or timeout",
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
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, "token\n").unwrap();
        let token = token.display();
        bad(
            &format!("{{name: a, alertmanager: {{urls: ['http://u:hunter2@am'], basic_auth: {{username: u, password: hunter2}}}}}},
             {{name: b, webhook: {{url: 'http://u:hunter2@h', bearer_token_file: {token}}}}},
             {{name: c, webhook: {{url: 'http://h', basic_auth: {{username: 'a:b', password: hunter2, password_file: {token}}},
              bearer_token_file: {token}, headers: {{Authorization: hunter2}}}}}},
             {{name: d, webhook: {{url: 'http://h', basic_auth: {{}}}}}}"),
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
                "[0].webhook.headers.x-a: there already, in upper or lower case; expected it once",
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
