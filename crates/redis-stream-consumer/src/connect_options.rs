//! Where a server is and who we are there, with the password kept out of sight.

use std::fmt;
use std::io;
use std::path::PathBuf;

use redis::{ProtocolVersion, RedisConnectionInfo};

use super::error::WorkloadError;
use redis_stream_core::dial::Dialer;
use redis_stream_core::redis_url::{self, CREDENTIALS_TWICE, Place, ServerUrl, USER_WITHOUT_PASSWORD};
use redis_stream_core::tls::Tls;

/// Where a server is and who we are there. `Display` shows no credentials, `Debug` no password.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    url: ServerUrl,
    password_file: Option<PathBuf>,
    tls: Tls,
}

impl ConnectOptions {
    /// Reads a URL; `username` and `password_file` say what it does not.
    ///
    /// The file is read at every connect, so that the password may be rotated. Nothing is connected here.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::Setting`], for a URL that does not read as one, credentials in two places, and a user
    /// without a password.
    pub fn new(
        url: &str,
        username: Option<&str>,
        password_file: Option<PathBuf>,
    ) -> Result<Self, WorkloadError> {
        let setting = |text: &dyn fmt::Display| WorkloadError::Setting(format!("redis URL: {text}"));
        let mut url = redis_url::parse(url).map_err(|error| setting(&error))?;
        if username.is_some() && !url.is_open_to_a_username() {
            return Err(setting(&format_args!("it {CREDENTIALS_TWICE}")));
        }
        if username.is_some() {
            url.username = username.map(str::to_owned);
        }
        Self::at(url, password_file)
    }

    /// The same of a URL that was read before.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::Setting`], for a password in two places, and a user without one.
    pub fn at(url: ServerUrl, password_file: Option<PathBuf>) -> Result<Self, WorkloadError> {
        let setting = |text: &str| WorkloadError::Setting(format!("redis URL: {text}"));
        if password_file.is_some() && !url.is_open_to_a_password() {
            return Err(setting(&format!("it {CREDENTIALS_TWICE}")));
        }
        if url.username.is_some() && url.password.is_none() && password_file.is_none() {
            return Err(setting(USER_WITHOUT_PASSWORD));
        }
        Ok(Self { url, password_file, tls: Tls::default() })
    }

    /// The same, and how it is known where the URL is `rediss://`: else by the authorities of the system.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
    }

    /// What makes connections to it.
    pub(super) fn dialer(&self) -> Dialer {
        Dialer::new(self.tls.clone())
    }

    /// Where it listens.
    pub(super) fn place(&self) -> &Place {
        &self.url.place
    }

    /// Who we are to it now, the password file read.
    pub(super) async fn settings(&self) -> Result<RedisConnectionInfo, WorkloadError> {
        let mut settings = RedisConnectionInfo::default()
            .set_db(i64::from(self.url.db))
            // RESP2: a server that does not know HELLO repeats its arguments, and so the password, in its error.
            .set_protocol(ProtocolVersion::RESP2)
            .set_lib_name("streamgauge", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &self.url.username {
            settings = settings.set_username(username);
        }
        if let Some(path) = &self.password_file {
            let password = read_password(path.clone())
                .await
                .map_err(|source| WorkloadError::PasswordFile { path: path.clone(), source })?;
            settings = settings.set_password(password);
        } else if let Some(password) = &self.url.password {
            settings = settings.set_password(password.expose());
        }
        Ok(settings)
    }
}

impl fmt::Display for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// One trailing newline is not part of the password.
async fn read_password(path: PathBuf) -> io::Result<String> {
    let mut text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path))
        .await
        .map_err(io::Error::other)??;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn endpoint(url: &str) -> ConnectOptions {
        ConnectOptions::new(url, None, None).unwrap()
    }

    #[test]
    fn an_endpoint_shows_the_server_and_never_a_credential() {
        let hidden = endpoint("redis://me:secret@cache:6380/3");
        assert_eq!(hidden.to_string(), "redis://cache:6380/3");
        assert!(!format!("{hidden:?}").contains("secret"));
        assert_eq!(endpoint("redis://[::1]").to_string(), "redis://[::1]:6379");
    }

    #[test]
    fn a_wrong_url_is_a_setting_and_is_not_repeated() {
        let form = "; expected redis[s]://[user[:password]@]host[:port][/db] or unix:///path[?db=N]";
        let file = || Some(PathBuf::from("/nowhere/password"));
        for (url, username, password_file, what) in [
            ("me:secret@cache", None, None, format!("not the URL of a Redis server{form}")),
            ("redis://me:secret@cache/zero", None, None, format!("the path is not a database number{form}")),
            ("unix://secret", None, None, format!("unix:// without a path that begins with /{form}")),
            ("redis://me@cache", None, None, USER_WITHOUT_PASSWORD.to_owned()),
            ("redis://cache", Some("me"), None, USER_WITHOUT_PASSWORD.to_owned()),
            ("redis://me:secret@cache", Some("me"), None, format!("it {CREDENTIALS_TWICE}")),
            ("redis://:secret@cache", Some("me"), None, format!("it {CREDENTIALS_TWICE}")),
            ("redis://:secret@cache", None, file(), format!("it {CREDENTIALS_TWICE}")),
        ] {
            let error = ConnectOptions::new(url, username, password_file).unwrap_err();
            assert!(matches!(error, WorkloadError::Setting(_)), "{url}");
            assert_eq!(error.to_string(), format!("redis URL: {what}"), "{url}");
        }
    }

    #[tokio::test]
    async fn a_url_is_what_is_connected_to() {
        let endpoint = endpoint("redis://me:se%2Fcret@cache:6380/3");
        assert_eq!(endpoint.place().to_string(), "cache:6380");
        let settings = endpoint.settings().await.unwrap();
        assert_eq!((settings.db(), settings.protocol()), (3, ProtocolVersion::RESP2));
        assert_eq!((settings.username(), settings.password()), (Some("me"), Some("se/cret")));
    }

    #[tokio::test]
    async fn one_newline_at_the_end_of_a_password_file_is_not_the_password() {
        for (content, password) in
            [("secret\n", "secret"), ("secret\r\n", "secret"), ("secret\n\n", "secret\n")]
        {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            for (url, username) in [("redis://cache", Some("me")), ("redis://me@cache", None)] {
                let endpoint = ConnectOptions::new(url, username, Some(file.path().to_owned())).unwrap();
                let settings = endpoint.settings().await.unwrap();
                assert_eq!((settings.password(), settings.username()), (Some(password), Some("me")));
            }
        }
    }
}
