//! Who may read: users with bcrypt hashes, by HTTP's basic authentication. It decides; it answers nothing.
//!
//! A check of a hash takes tens of milliseconds of CPU, so it runs off the reactor and one at a time, and who was
//! right once is remembered: by a keyed digest, never by the password. What takes time is the same for users that
//! there are and users that there are not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::warn;

use redis_stream_core::secret::Secret;

/// Those who may read.
pub struct Users {
    hashes: BTreeMap<String, Secret>,
    /// The hash that takes longest: what is checked of users that do not exist.
    stand_in: Secret,
    /// Made by chance, so that digests tell nothing to who reads the memory later. `None` where the system has no
    /// random numbers: then nobody is remembered.
    key: Option<hmac::Key>,
    /// Of each user the digest of the password that was right: one at most, so there is a bound.
    remembered: Mutex<BTreeMap<String, hmac::Tag>>,
    /// Wrong passwords cost one processor at most.
    turn: Arc<Semaphore>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("names", &self.hashes.keys()).finish_non_exhaustive()
    }
}

/// What a client says who it is.
struct Claim {
    user: String,
    password: Vec<u8>,
}

impl Users {
    /// From user to bcrypt hash. `None` where there are no users.
    #[must_use]
    pub fn new(hashes: BTreeMap<String, Secret>) -> Option<Self> {
        let stand_in = hashes.values().max_by_key(|hash| cost(hash))?.clone();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        let turn = Arc::new(Semaphore::new(1));
        Some(Self { hashes, stand_in, key, remembered: Mutex::default(), turn })
    }

    /// Whether the request comes from one of them.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(claim) = Claim::read(headers) else { return false };
        self.is_remembered(&claim) || self.is_right(claim).await
    }

    fn is_remembered(&self, claim: &Claim) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((key, tag)) = self.key.as_ref().zip(remembered.get(&claim.user)) else { return false };
        // Takes as long whatever differs.
        hmac::verify(key, &claim.password, tag.as_ref()).is_ok()
    }

    async fn is_right(&self, claim: Claim) -> bool {
        let known = self.hashes.get(&claim.user);
        let (is_known, hash) = (known.is_some(), known.unwrap_or(&self.stand_in).clone());
        // It is never closed.
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return false };
        // Somebody before us in the row may have been the same.
        if self.is_remembered(&claim) {
            return true;
        }
        let Claim { user, password } = claim;
        let checked = spawn_blocking(move || {
            // Held until the check is over, even if the client has left meanwhile.
            let _turn = turn;
            let is_right = bcrypt::verify(&password, hash.expose());
            (
                is_right.inspect_err(|error| warn!(%error, "cannot check a password")).unwrap_or(false),
                password,
            )
        });
        // It fails only while the runtime shuts down.
        let Ok((is_right, password)) = checked.await else { return false };
        if let Some(key) = self.key.as_ref().filter(|_| is_right && is_known) {
            let tag = hmac::sign(key, &password);
            self.remembered.lock().unwrap_or_else(PoisonError::into_inner).insert(user, tag);
        }
        is_right && is_known
    }
}

impl Claim {
    /// From `Authorization: Basic`; `None` where there is no such header.
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
            assert_eq!(users.admit(&claim).await, is_admitted, "{claim:?}");
            assert_eq!(users.admit(&claim).await, is_admitted, "{claim:?}");
        }
    }

    #[tokio::test]
    async fn who_was_right_waits_for_no_check() {
        let users = users(&[("anna", "a")]);
        assert!(users.admit(&basic("anna:a")).await);
        let _turn = users.turn.acquire().await.unwrap();
        assert!(users.admit(&basic("anna:a")).await);
        let wrong = basic("anna:b");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(50), users.admit(&wrong));
        assert!(waiting.await.is_err(), "it waits for its turn");
    }

    #[tokio::test]
    async fn unknown_users_cost_the_dearest_check_and_are_not_remembered() {
        let hash = |cost| Secret::new(bcrypt::hash("x", cost).unwrap());
        let hashes = [("a", 4), ("b", 6), ("c", 5)].map(|(name, cost)| (name.to_owned(), hash(cost)));
        let users = Users::new(hashes.into()).unwrap();
        assert_eq!(cost(&users.stand_in), 6);
        for n in 0..20 {
            assert!(!users.admit(&basic(&format!("u{n}:x"))).await);
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
