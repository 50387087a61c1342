//! Where a server is and who we are there, with the password kept out of sight.

use std::fmt;
use std::io;
use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use super::error::WorkloadError;

/// The form of a URL that is understood here.
const FORM: &str = "redis://[user[:password]@]host[:port][/db]";

/// Where a server is and who we are there. `Display` and `Debug` show no password.
#[derive(Clone, Debug)]
pub struct Endpoint {
    info: ConnectionInfo,
    password_file: Option<PathBuf>,
}

impl Endpoint {
    /// Reads a URL; `username` and `password_file` stand in place of what the URL says of them.
    ///
    /// The file is read at every connect, so that the password may be rotated. Nothing is connected here.
    ///
    /// # Errors
    ///
    /// [`WorkloadError::Setting`], for a URL that does not read as one, and for a user without a password.
    pub fn new(
        url: &str,
        username: Option<&str>,
        password_file: Option<PathBuf>,
    ) -> Result<Self, WorkloadError> {
        let info = read_url(url)?;
        let mut settings = info
            .redis_settings()
            .clone()
            // RESP2 whatever the URL asks for: a server that does not know HELLO repeats its arguments, and
            // so the password, in its error.
            .set_protocol(ProtocolVersion::RESP2)
            .set_lib_name("streamgauge", env!("CARGO_PKG_VERSION"));
        if let Some(username) = username {
            settings = settings.set_username(username);
        }
        if settings.username().is_some() && settings.password().is_none() && password_file.is_none() {
            return Err(WorkloadError::Setting(
                "a user name needs a password, or a password file".to_owned(),
            ));
        }
        // Commands are small and answered one by one: Nagle's algorithm would hold each back.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(Self { info: info.set_redis_settings(settings).set_tcp_settings(tcp), password_file })
    }

    /// What to connect with now, the password file read.
    pub(super) async fn connection_info(&self) -> Result<ConnectionInfo, WorkloadError> {
        let Some(path) = &self.password_file else {
            return Ok(self.info.clone());
        };
        let text = read_password(path.clone())
            .await
            .map_err(|source| WorkloadError::PasswordFile { path: path.clone(), source })?;
        let settings = self.info.redis_settings().clone().set_password(text);
        Ok(self.info.clone().set_redis_settings(settings))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) if host.contains(':') => write!(f, "redis://[{host}]:{port}")?,
            ConnectionAddr::Tcp(host, port) => write!(f, "redis://{host}:{port}")?,
            ConnectionAddr::Unix(path) => write!(f, "unix://{}", path.display())?,
            _ => f.write_str("redis server")?,
        }
        match self.info.redis_settings().db() {
            0 => Ok(()),
            db => write!(f, "/{db}"),
        }
    }
}

fn read_url(url: &str) -> Result<ConnectionInfo, WorkloadError> {
    if url.starts_with("rediss://") || url.starts_with("valkeys://") {
        let text = format!("redis URL: TLS is not supported yet, expected {FORM}");
        return Err(WorkloadError::Setting(text));
    }
    // The URL may hold a password, so no message repeats it.
    url.into_connection_info().map_err(|error| {
        let what = match error.to_string() {
            text if text.starts_with("Invalid database number") => "the database is not a number",
            text if text.starts_with("Cannot connect to a wildcard") => "0.0.0.0 and :: are no addresses",
            _ => "it does not read as one",
        };
        WorkloadError::Setting(format!("redis URL: {what}, expected {FORM}"))
    })
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

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(url, None, None).unwrap()
    }

    fn fault(url: &str) -> String {
        Endpoint::new(url, None, None).unwrap_err().to_string()
    }

    #[test]
    fn an_endpoint_shows_the_server_and_never_a_credential() {
        let hidden = endpoint("redis://me:secret@cache:6380/3");
        assert_eq!(hidden.to_string(), "redis://cache:6380/3");
        assert!(!format!("{hidden:?}").contains("secret"));
        assert_eq!(endpoint("redis://[::1]").to_string(), "redis://[::1]:6379");
        assert_eq!(endpoint("unix:///run/redis.sock").to_string(), "unix:///run/redis.sock");
    }

    #[test]
    fn a_wrong_url_is_a_setting_and_is_not_repeated() {
        let form = "expected redis://[user[:password]@]host[:port][/db]";
        for (url, what) in [
            ("me:secret@cache", "it does not read as one"),
            ("http://me:secret@cache", "it does not read as one"),
            ("redis://me:secret@cache/zero", "the database is not a number"),
            ("rediss://me:secret@cache", "TLS is not supported yet"),
            ("redis://0.0.0.0", "0.0.0.0 and :: are no addresses"),
        ] {
            assert_eq!(fault(url), format!("redis URL: {what}, {form}"));
        }
    }

    #[test]
    fn a_user_without_a_password_is_refused() {
        assert_eq!(fault("redis://me@cache"), "a user name needs a password, or a password file");
    }

    #[tokio::test]
    async fn one_newline_at_the_end_of_a_password_file_is_not_the_password() {
        for (content, password) in
            [("secret\n", "secret"), ("secret\r\n", "secret"), ("secret\n\n", "secret\n")]
        {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            let endpoint =
                Endpoint::new("redis://:old@cache", Some("me"), Some(file.path().to_owned())).unwrap();
            let info = endpoint.connection_info().await.unwrap();
            assert_eq!(info.redis_settings().password(), Some(password));
            assert_eq!(info.redis_settings().username(), Some("me"));
        }
    }
}
