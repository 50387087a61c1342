//! Access control: TLS before the first request of a connection, HTTP basic authentication before each request.
//!
//! A bcrypt check takes tens of milliseconds of CPU, so checks run off the reactor and one at a time, and a password that
//! was right is remembered as a keyed digest. Unknown users take as long to refuse as known ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::config::Web;
use crate::http::reply::Reply;
use crate::http::tls::{ServerTls, ServerTlsError};
use redis_stream_core::secret::Secret;

/// TLS and users of a server. May be replaced while it runs: new connections use the new TLS, new requests the new users.
#[derive(Clone, Debug, Default)]
pub struct AccessControl {
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// `None` to serve everyone.
    pub users: Option<Arc<Users>>,
}

impl AccessControl {
    /// Creates the access control of a configuration.
    ///
    /// # Errors
    ///
    /// A certificate or key cannot be used.
    pub fn new(web: &Web) -> Result<Self, ServerTlsError> {
        Self::default().updated(&Web::default(), web)
    }

    /// Returns the access control after a reload. Unchanged parts keep their TLS sessions and remembered passwords.
    ///
    /// # Errors
    ///
    /// A certificate or key cannot be used.
    pub fn updated(&self, before: &Web, after: &Web) -> Result<Self, ServerTlsError> {
        let mut access = self.clone();
        if after.tls != before.tls {
            access.tls = after.tls.clone().map(ServerTls::new).transpose()?.map(Arc::new);
        }
        if after.users != before.users {
            access.users = Users::new(after.users.clone()).map(Arc::new);
        }
        Ok(access)
    }

    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Admission {
        match &self.users {
            Some(users) => users.admit(headers).await,
            None => Admission::Granted,
        }
    }
}

/// The result of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Granted,
    Denied,
    /// Too many other passwords wait to be checked.
    Busy,
}

pub(crate) fn busy() -> Reply {
    Reply::text(StatusCode::SERVICE_UNAVAILABLE, "too many logins at a time; try again\n")
        .header(RETRY_AFTER, HeaderValue::from_static("1"))
}

pub(crate) fn unauthorized() -> Reply {
    Reply::text(StatusCode::UNAUTHORIZED, "unauthorized\n")
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"streamgauge\", charset=\"UTF-8\""))
}

/// Passwords that wait for their check, at most: beyond that a login would take longer than a second.
const WAITING: usize = 8;

/// The users of a server.
pub struct Users {
    hashes: BTreeMap<String, Secret>,
    /// The most expensive hash: checked for unknown users.
    stand_in: Secret,
    /// Random, so that digests are of no use to a later reader of the memory. `None` where the system has no random
    /// numbers: then no password is remembered.
    key: Option<hmac::Key>,
    /// The digest of each user's last right password.
    remembered: Mutex<BTreeMap<String, hmac::Tag>>,
    /// Limits checks to one processor.
    turn: Arc<Semaphore>,
    /// Limits the checks that wait or run.
    queue: Arc<Semaphore>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("names", &self.hashes.keys()).finish_non_exhaustive()
    }
}

struct Credentials {
    user: String,
    password: Vec<u8>,
}

impl Users {
    /// Creates the users from their bcrypt hashes; `None` if there are no users.
    pub fn new(hashes: BTreeMap<String, Secret>) -> Option<Self> {
        let stand_in = hashes.values().max_by_key(|hash| cost(hash))?.clone();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        let (turn, queue) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1 + WAITING)));
        Some(Self { hashes, stand_in, key, remembered: Mutex::default(), turn, queue })
    }

    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Admission {
        let Some(credentials) = Credentials::read(headers) else { return Admission::Denied };
        if self.is_remembered(&credentials) {
            return Admission::Granted;
        }
        let Ok(_queued) = self.queue.try_acquire() else { return Admission::Busy };
        if self.is_right(credentials).await { Admission::Granted } else { Admission::Denied }
    }

    fn is_remembered(&self, credentials: &Credentials) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = remembered.get(&credentials.user);
        let Some((key, tag)) = self.key.as_ref().zip(tag) else { return false };
        // In constant time.
        hmac::verify(key, &credentials.password, tag.as_ref()).is_ok()
    }

    async fn is_right(&self, credentials: Credentials) -> bool {
        let known = self.hashes.get(&credentials.user);
        let (is_known, hash) = (known.is_some(), known.unwrap_or(&self.stand_in).clone());
        // The semaphore is never closed.
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return false };
        // A request of the same user may have been checked while this one waited.
        if self.is_remembered(&credentials) {
            return true;
        }
        let Credentials { user, password } = credentials;
        let checked = spawn_blocking(move || {
            // Held until the check is over, even if the client has disconnected.
            let _turn = turn;
            let is_right = bcrypt::verify(&password, hash.expose());
            (
                is_right.inspect_err(|error| warn!(%error, "cannot check a password")).unwrap_or(false),
                password,
            )
        });
        // Fails only while the runtime shuts down.
        let Ok((is_right, password)) = checked.await else { return false };
        if let Some(key) = self.key.as_ref().filter(|_| is_right && is_known) {
            let tag = hmac::sign(key, &password);
            self.remembered.lock().unwrap_or_else(PoisonError::into_inner).insert(user, tag);
        }
        is_right && is_known
    }
}

impl Credentials {
    /// Reads `Authorization: Basic`.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, coded) = value.split_at_checked(b"Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let text = STANDARD.decode(coded.trim_ascii()).ok()?;
        let colon = text.iter().position(|byte| *byte == b':')?;
        let user = String::from_utf8(text[..colon].to_vec()).ok()?;
        Some(Self { user, password: text[colon + 1..].to_vec() })
    }
}

fn cost(hash: &Secret) -> u32 {
    hash.expose().parse::<bcrypt::HashParts>().map_or(0, |parts| parts.get_cost())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(names: &[(&str, &str)]) -> Users {
        let hash = |password: &str| Secret::new(bcrypt::hash(password, 4).unwrap());
        let hashes = names.iter().map(|(name, password)| ((*name).to_owned(), hash(password)));
        Users::new(hashes.collect()).unwrap()
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn basic(text: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(text)))
    }

    #[tokio::test]
    async fn only_users_with_their_own_password_are_admitted() {
        let users = users(&[("anna", "a:b c\u{e9}"), ("bert", "")]);
        for (claim, is_admitted) in [
            (basic("anna:a:b c\u{e9}"), true),
            (basic("bert:"), true),
            (basic("anna:a:b"), false),
            (basic("anna:"), false),
            (basic("bert:a:b c\u{e9}"), false),
            (basic("carl:a:b c\u{e9}"), false),
            (basic(":"), false),
            (basic("anna"), false),
            (basic(""), false),
            (headers("bAsIc YmVydDo="), true),
            (headers("Basic  YmVydDo="), true),
            (headers("Basic YmVydDo"), false),
            (headers("Basic ***"), false),
            (headers("Basic"), false),
            (headers("Bearer YmVydDo="), false),
            (HeaderMap::new(), false),
        ] {
            // Twice: what is remembered must be as right.
            let expected = if is_admitted { Admission::Granted } else { Admission::Denied };
            assert_eq!(users.admit(&claim).await, expected, "{claim:?}");
            assert_eq!(users.admit(&claim).await, expected, "{claim:?}");
        }
    }

    #[tokio::test]
    async fn who_was_right_waits_for_no_check() {
        let users = users(&[("anna", "a")]);
        assert_eq!(users.admit(&basic("anna:a")).await, Admission::Granted);
        let turn = users.turn.acquire().await.unwrap();
        assert_eq!(users.admit(&basic("anna:a")).await, Admission::Granted);
        let wrong = basic("anna:b");
        let all = futures_util::future::join_all((0..60).map(|_| users.admit(&wrong)));
        let free_turn = async {
            // After all of them were polled once.
            tokio::task::yield_now().await;
            assert_eq!(users.admit(&basic("anna:a")).await, Admission::Granted);
            drop(turn);
        };
        let (admissions, ()) = tokio::join!(all, free_turn);
        let count = |wanted| admissions.iter().filter(|admission| **admission == wanted).count();
        assert_eq!((count(Admission::Denied), count(Admission::Busy)), (1 + WAITING, 59 - WAITING));
    }

    #[tokio::test]
    async fn unknown_users_cost_the_dearest_check_and_are_not_remembered() {
        let hash = |cost| Secret::new(bcrypt::hash("x", cost).unwrap());
        let hashes = [("a", 4), ("b", 6), ("c", 5)].map(|(name, cost)| (name.to_owned(), hash(cost)));
        let users = Users::new(hashes.into()).unwrap();
        assert_eq!(cost(&users.stand_in), 6);
        for n in 0..20 {
            assert_eq!(users.admit(&basic(&format!("u{n}:x"))).await, Admission::Denied);
        }
        assert!(users.remembered.lock().unwrap().is_empty());
    }

    #[test]
    fn debug_output_shows_no_hash() {
        let shown = format!("{:?}", users(&[("anna", "a")]));
        assert!(shown.contains("anna") && !shown.contains("$2"), "{shown}");
    }

    #[test]
    fn without_users_there_is_nobody_to_ask_for() {
        assert!(Users::new(BTreeMap::new()).is_none());
    }
}
