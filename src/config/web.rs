//! Reads `web`, the HTTP server. TLS and users have the keys and meanings of Prometheus' web configuration file; its
//! other keys are unknown here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bcrypt::HashParts;

use crate::alert::web_link::WebLink;
use crate::config::Web;
use crate::config::cursor::{Cursor, Section};
use crate::config::http_receiver;
use crate::config::tls::{CERTIFICATE, PRIVATE_KEY, pem_file};
use redis_stream_core::secret::Secret;

const CLIENT_AUTHS: [(&str, ClientAuth); 5] = [
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

const VERSIONS: [(&str, TlsVersion); 2] = [("TLS12", TlsVersion::Tls12), ("TLS13", TlsVersion::Tls13)];

/// A check of a higher cost takes longer than clients wait.
const MAX_BCRYPT_COST: u32 = 16;

/// `web.tls_server_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServer {
    /// Our certificate, followed by intermediate ones.
    pub cert_file: PathBuf,
    /// The private key of the certificate.
    pub key_file: PathBuf,
    /// The certificate required of clients.
    pub client_auth: ClientAuth,
    /// Authorities for client certificates; present if `client_auth` verifies them.
    pub client_ca_file: Option<PathBuf>,
    /// The lowest accepted version.
    pub min_version: TlsVersion,
    /// The highest accepted version.
    pub max_version: TlsVersion,
}

/// `web.tls_server_config.client_auth_type`: the certificate required of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `NoClientCert` (default).
    None,
    /// `RequestClientCert`: any certificate, or none.
    Request,
    /// `RequireAnyClientCert`: any certificate.
    RequireAny,
    /// `VerifyClientCertIfGiven`: one of a known authority, or none.
    VerifyIfGiven,
    /// `RequireAndVerifyClientCert`: one of a known authority.
    RequireAndVerify,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `TLS12`.
    Tls12,
    /// `TLS13`.
    Tls13,
}

impl ClientAuth {
    /// Returns true if client certificates are verified.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

pub(super) fn web(section: &Section<'_>) -> Web {
    let listen = section.key("listen").socket_address();
    let external_url = http_receiver::external_url(&section.key("external_url"));
    let links = links(&section.key("links"));
    let enable_reload = section.key("enable_reload").boolean().unwrap_or(false);
    let probe_key = section.key("probe_listen");
    let probe_listen = if probe_key.is_empty_text() { None } else { probe_key.socket_address() };
    // Port 0 is a different port for each.
    if listen.is_some_and(|listen| Some(listen) == probe_listen && listen.port() != 0) {
        probe_key.fault("the address of web.listen; expected another");
    }
    let tls = section.key("tls_server_config").given_section(tls_server);
    let users = users(&section.key("basic_auth_users"));
    Web { listen, external_url, links, enable_reload, probe_listen, tls, users }
}

fn links(list: &Cursor<'_>) -> Vec<WebLink> {
    let items = list.items().into_iter().flatten();
    let link = |item: Cursor<'_>| {
        item.section(|section| {
            let (name_key, url_key) = (section.key("name"), section.key("url"));
            let name = name_key.filled_text("the text of the link");
            let url = url_key.filled_text("a URL with {{target}}, {{stream}} and the like");
            name_key.require("the text of the link");
            url_key.require("a URL with {{target}}, {{stream}} and the like");
            WebLink::new(name?, &url?).map_err(|error| url_key.fault(error)).ok()
        })
    };
    items.filter_map(link).collect()
}

fn tls_server(section: &Section<'_>) -> Option<TlsServer> {
    let (cert_key, key_key) = (section.key("cert_file"), section.key("key_file"));
    let ca_key = section.key("client_ca_file");
    let auth_key = section.key("client_auth_type");
    let client_auth = auth_key.choice(&CLIENT_AUTHS);
    let (min_key, max_key) = (section.key("min_version"), section.key("max_version"));
    let min_version = min_key.choice(&VERSIONS).unwrap_or(TlsVersion::Tls12);
    let max_version = max_key.choice(&VERSIONS).unwrap_or(TlsVersion::Tls13);
    if min_version > max_version {
        max_key.fault(format_args!("below {}; expected at least that", min_key.label()));
    }
    let cert_file = pem_file(&cert_key, CERTIFICATE);
    let key_file = pem_file(&key_key, PRIVATE_KEY);
    let client_ca_file = pem_file(&ca_key, CERTIFICATE);
    for key in [&cert_key, &key_key] {
        key.require("a file in PEM");
    }
    let is_sound = client_auth.is_some() || !auth_key.is_given();
    let client_auth = client_auth.unwrap_or(ClientAuth::None);
    if is_sound && client_auth.verifies() && !ca_key.is_given() {
        ca_key.fault(format_args!(
            "missing; expected the certificates of authorities, as {} says that clients are verified",
            auth_key.label()
        ));
    }
    if is_sound && !client_auth.verifies() && ca_key.is_given() {
        auth_key.fault(format_args!(
            "does not verify clients, though there is {}; expected RequireAndVerifyClientCert or \
             VerifyClientCertIfGiven",
            ca_key.label()
        ));
    }
    Some(TlsServer {
        cert_file: cert_file?,
        key_file: key_file?,
        client_auth,
        client_ca_file,
        min_version,
        max_version,
    })
}

/// Reads the bcrypt hash of each user. No message has a part of a hash.
fn users(key: &Cursor<'_>) -> BTreeMap<String, Secret> {
    let mut users = BTreeMap::new();
    for (name, hash_key) in key.entries() {
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            hash_key.fault("not the name of a user; expected one without colons and control characters");
        }
        let Some(hash) = hash_key.text() else { continue };
        match hash.value.parse::<HashParts>().map(|parts| parts.get_cost()) {
            Ok(cost) if cost > MAX_BCRYPT_COST => hash_key.fault(format_args!(
                "a cost of {cost}, which takes seconds at each check; expected at most {MAX_BCRYPT_COST}"
            )),
            Ok(_) => {}
            Err(_) => hash_key.fault(
                "not a bcrypt hash; expected one, such as `htpasswd -nBC 10 NAME` prints behind the colon",
            ),
        }
        users.insert(name, Secret::new(hash.value));
    }
    users
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load::from_text;

    const HASH: &str = "$2y$04$wBgnS8Qz1q0zK0iSJmSHnOg3bwkmXoEPUi7Qz1mJxdZpnBVqv4tQe";

    fn read(folder: &Path, web: &str) -> Result<Web, String> {
        let text = format!("web: {{{web}}}\ntargets: [{{url: 'redis://cache'}}]");
        from_text("f", &text, folder, &|_| None).map(|config| config.web).map_err(|error| error.to_string())
    }

    /// A folder with a certificate and its key.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("own.pem"), own.cert.pem()).unwrap();
        std::fs::write(folder.path().join("own.key"), own.signing_key.serialize_pem()).unwrap();
        folder
    }

    #[test]
    fn by_default_it_is_plain_and_open() {
        assert_eq!(read(Path::new(""), "").unwrap(), Web::default());
        assert_eq!(read(Path::new(""), "probe_listen: ''").unwrap(), Web::default());
    }

    #[test]
    fn links_are_taken_and_wrong_ones_are_named() {
        let web = read(
            Path::new(""),
            "links: [{name: Grafana, url: 'https://g.example.com/d/x?var-group={{group}}'}, {name: Home, url: 'http://home'}]",
        );
        let names: Vec<_> = web.unwrap().links.into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["Grafana", "Home"]);
        let faults = read(
            Path::new(""),
            "links: [{name: x, url: 'javascript:alert(1)'}, {name: y, url: 'https://u:hunter2@host'}, {url: 'http://home'}, {name: z, url: 'http://h/{{streams}}'}]",
        );
        let faults = faults.unwrap_err();
        for fault in [
            "links[0].url: not a URL of a web page",
            "links[1].url: a user name or password",
            "links[2].name: missing; expected the text of the link",
            "links[3].url: a placeholder that is not known",
        ] {
            assert!(faults.contains(fault), "{fault}: {faults}");
        }
        assert!(!faults.contains("hunter2"), "{faults}");
    }

    #[test]
    fn tls_and_users_are_taken() {
        let folder = folder();
        let tls = "cert_file: own.pem, key_file: own.key, client_ca_file: own.pem, \
                   client_auth_type: VerifyClientCertIfGiven, min_version: TLS13";
        let web = format!(
            "enable_reload: true, probe_listen: '[::]:1', tls_server_config: {{{tls}}}, basic_auth_users: {{u: '{HASH}'}}"
        );
        let web = read(folder.path(), &web).unwrap();
        let expected = TlsServer {
            cert_file: folder.path().join("own.pem"),
            key_file: folder.path().join("own.key"),
            client_auth: ClientAuth::VerifyIfGiven,
            client_ca_file: Some(folder.path().join("own.pem")),
            min_version: TlsVersion::Tls13,
            max_version: TlsVersion::Tls13,
        };
        assert_eq!(web.tls, Some(expected));
        assert_eq!(web.users["u"].expose(), HASH);
        assert!(web.enable_reload);
        assert_eq!(web.probe_listen.unwrap().port(), 1);
    }

    #[test]
    fn what_is_wrong_is_named_and_never_a_hash() {
        let folder = folder();
        let both = "cert_file: own.pem, key_file: own.key";
        let bcrypt =
            "not a bcrypt hash; expected one, such as `htpasswd -nBC 10 NAME` prints behind the colon";
        let user = "not the name of a user; expected one without colons and control characters";
        let cases = [
            (
                "tls_server_config: {}".to_owned(),
                "tls_server_config.cert_file: missing; expected a file in PEM\n\
                 f: web.tls_server_config.key_file: missing; expected a file in PEM"
                    .to_owned(),
            ),
            (
                "tls_server_config: {cert_file: own.pem, key_file: own.pem}".to_owned(),
                "tls_server_config.key_file: no private key in the file; expected PEM".to_owned(),
            ),
            (
                format!("tls_server_config: {{{both}, client_ca_file: own.pem}}"),
                "tls_server_config.client_auth_type: does not verify clients, though there is \
                 web.tls_server_config.client_ca_file; expected RequireAndVerifyClientCert or \
                 VerifyClientCertIfGiven"
                    .to_owned(),
            ),
            (
                format!("tls_server_config: {{{both}, client_auth_type: RequireAndVerifyClientCert}}"),
                "tls_server_config.client_ca_file: missing; expected the certificates of authorities, as \
                 web.tls_server_config.client_auth_type says that clients are verified"
                    .to_owned(),
            ),
            (
                format!("tls_server_config: {{{both}, min_version: TLS10}}"),
                "tls_server_config.min_version: unknown value \"TLS10\"; expected TLS12 or TLS13".to_owned(),
            ),
            (
                format!("tls_server_config: {{{both}, min_version: TLS13, max_version: TLS12}}"),
                "tls_server_config.max_version: below web.tls_server_config.min_version; expected at least that"
                    .to_owned(),
            ),
            (
                format!("tls_server_config: {{{both}, cipher_suites: []}}"),
                "tls_server_config: unknown key, number 3 in the map; expected cert_file, key_file, client_ca_file, \
                 client_auth_type, min_version or max_version"
                    .to_owned(),
            ),
            ("basic_auth_users: {u: hunter2}".to_owned(), format!("basic_auth_users.u: {bcrypt}")),
            (format!("basic_auth_users: {{'u:': '{HASH}'}}"), format!("basic_auth_users.\"u:\": {user}")),
            (
                format!("basic_auth_users: {{u: '{}'}}", HASH.replace("$04", "$31")),
                "basic_auth_users.u: a cost of 31, which takes seconds at each check; expected at most 16"
                    .to_owned(),
            ),
            (
                "listen: '[::]:1', probe_listen: '[::]:1'".to_owned(),
                "probe_listen: the address of web.listen; expected another".to_owned(),
            ),
        ];
        for (web, fault) in cases {
            assert_eq!(read(folder.path(), &web), Err(format!("f: web.{fault}")), "{web}");
        }
    }
}
