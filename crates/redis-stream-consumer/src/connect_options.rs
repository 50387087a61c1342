//! Address and credentials of a server, without showing the password.

use std::fmt;
use std::io;
use std::path::PathBuf;

use redis::{ProtocolVersion, RedisConnectionInfo};

use super::error::{InvalidConfig, RunError};
use redis_stream_core::dial::Dialer;
use redis_stream_core::file::{FileKind, read_text};
use redis_stream_core::redis_url::{self, CREDENTIALS_TWICE, Endpoint, ServerUrl, USER_WITHOUT_PASSWORD};
use redis_stream_core::secret::Secret;
use redis_stream_core::tls::Tls;

/// Address and credentials of a server. `Display` shows no credentials, `Debug` no password.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    url: ServerUrl,
    password_file: Option<PathBuf>,
    tls: Tls,
}

impl ConnectOptions {
    /// Parses a URL, and adds a user and a password file that are not part of it.
    ///
    /// The file is read at each connect, so that the password can be rotated.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for an invalid URL, credentials in two places, or a user without a password.
    pub fn new(
        url: &str,
        username: Option<&str>,
        password_file: Option<PathBuf>,
    ) -> Result<Self, InvalidConfig> {
        let mut url = redis_url::parse(url).map_err(|error| invalid(&error))?;
        if username.is_some() && !url.is_open_to_a_username() {
            return Err(invalid(&format_args!("it {CREDENTIALS_TWICE}")));
        }
        if username.is_some() {
            url.username = username.map(str::to_owned);
        }
        Self::from_url(url, password_file)
    }

    /// Uses a parsed URL, and adds a password file that is not part of it.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for a password in two places, or a user without a password.
    pub fn from_url(url: ServerUrl, password_file: Option<PathBuf>) -> Result<Self, InvalidConfig> {
        if password_file.is_some() && !url.is_open_to_a_password() {
            return Err(invalid(&format_args!("it {CREDENTIALS_TWICE}")));
        }
        if url.username.is_some() && url.password.is_none() && password_file.is_none() {
            return Err(invalid(&USER_WITHOUT_PASSWORD));
        }
        Ok(Self { url, password_file, tls: Tls::default() })
    }

    /// Sets the TLS settings for `rediss://`. By default, the system's authorities are trusted.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
    }

    pub(crate) fn dialer(&self) -> Dialer {
        Dialer::new(self.tls.clone())
    }

    pub(crate) fn has_password(&self) -> bool {
        self.password_file.is_some() || self.url.password.is_some()
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.url.endpoint
    }

    /// Reads the password file, and returns the settings for the client library.
    pub(crate) async fn settings(&self) -> Result<RedisConnectionInfo, RunError> {
        let mut settings = RedisConnectionInfo::default()
            .set_db(i64::from(self.url.db))
            // RESP2: a server that does not know HELLO repeats its arguments, and so the password, in its error.
            .set_protocol(ProtocolVersion::RESP2)
            // A user of a consumer may not be granted CLIENT SETINFO, and each refusal fills the server's ACL LOG.
            .set_skip_set_lib_name();
        if let Some(username) = &self.url.username {
            settings = settings.set_username(username);
        }
        let password = match &self.password_file {
            Some(path) => {
                let password = read_password(path.clone()).await;
                Some(password.map_err(|source| RunError::PasswordFile { path: path.clone(), source })?)
            }
            None => self.url.password.clone(),
        };
        if let Some(password) = password {
            password.mark_in_use();
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

fn invalid(error: &dyn fmt::Display) -> InvalidConfig {
    InvalidConfig::new(format!("redis URL: {error}"))
}

/// Returns the content without one trailing newline.
async fn read_password(path: PathBuf) -> io::Result<Secret> {
    let mut text = tokio::task::spawn_blocking(move || read_text(&path, FileKind::Secret))
        .await
        .map_err(io::Error::other)??;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn options(url: &str) -> ConnectOptions {
        ConnectOptions::new(url, None, None).unwrap()
    }

    #[test]
    fn options_show_the_server_and_never_a_credential() {
        let hidden = options("redis://me:secret@cache:6380/3");
        assert_eq!(hidden.to_string(), "redis://cache:6380/3");
        assert!(!format!("{hidden:?}").contains("secret"));
        assert_eq!(options("redis://[::1]").to_string(), "redis://[::1]:6379");
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
            assert_eq!(error.to_string(), format!("redis URL: {what}"), "{url}");
        }
    }

    #[tokio::test]
    async fn a_url_is_what_is_connected_to() {
        let options = options("redis://me:se%2Fcret@cache:6380/3");
        assert_eq!(options.endpoint().to_string(), "cache:6380");
        let settings = options.settings().await.unwrap();
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
                let options = ConnectOptions::new(url, username, Some(file.path().to_owned())).unwrap();
                let settings = options.settings().await.unwrap();
                assert_eq!((settings.password(), settings.username()), (Some(password), Some("me")));
            }
        }
    }
}
