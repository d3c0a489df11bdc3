//! The credentials in force: learned from their source, and learned again before they expire.
//!
//! Asked by `endpoint.rs` for every request. Invariant: at most one refresh is under way;
//! one that fails costs nothing while the old credentials live, and is told, without any secret,
//! when they do not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::components::Components;
use crate::credentials::{CredentialSource, Credentials, Secret};
use crate::date::http_date;

/// Who asks, at any time.
pub(crate) struct Keyring {
    source: CredentialSource,
    components: Components,
    held: Mutex<Option<HeldCredentials>>,
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct HeldCredentials {
    credentials: Arc<Credentials>,
    /// None if they do not say.
    expires_ms: Option<u64>,
    refresh_ms: u64,
}

impl HeldCredentials {
    fn is_alive(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }
}

impl Keyring {
    pub(crate) fn new(source: &CredentialSource, components: &Components) -> Self {
        let held = match source {
            CredentialSource::Given(credentials) => Some(HeldCredentials {
                credentials: Arc::new(credentials.clone()),
                expires_ms: None,
                refresh_ms: u64::MAX,
            }),
            CredentialSource::Environment
            | CredentialSource::File(_)
            | CredentialSource::Command(_) => None,
        };
        Self {
            source: source.clone(),
            components: components.clone(),
            held: Mutex::new(held),
            refreshing: tokio::sync::Mutex::new(()),
        }
    }

    /// The credentials to sign with now; `now_ms` is the service's time.
    ///
    /// # Errors
    /// That there are none, or that they have expired, and why there are no others.
    pub(crate) async fn current(&self, now_ms: u64) -> Result<Arc<Credentials>, String> {
        let held = self.held().clone();
        let turn = match &held {
            Some(held) if now_ms < held.refresh_ms => return Ok(Arc::clone(&held.credentials)),
            Some(held) if held.is_alive(now_ms) => match self.refreshing.try_lock() {
                Ok(turn) => turn,
                // Somebody is at it; these still serve.
                Err(_) => return Ok(Arc::clone(&held.credentials)),
            },
            Some(_) | None => self.refreshing.lock().await,
        };
        // While this one waited another may have been successful.
        if let Some(held) = self.held().as_ref().filter(|held| now_ms < held.refresh_ms) {
            return Ok(Arc::clone(&held.credentials));
        }
        let refreshed = self.refresh(now_ms).await;
        drop(turn);
        refreshed
    }

    /// The service has refused these credentials: others, if the source has others by now.
    pub(crate) async fn instead_of(
        &self,
        refused: &Arc<Credentials>,
        now_ms: u64,
    ) -> Option<Arc<Credentials>> {
        if matches!(self.source, CredentialSource::Given(_)) {
            return None;
        }
        let turn = self.refreshing.lock().await;
        let held = self.held().as_ref().map(|held| Arc::clone(&held.credentials));
        let others = match held.filter(|held| **held != **refused) {
            Some(held) => Some(held),
            None => self.refresh(now_ms).await.ok().filter(|learned| **learned != **refused),
        };
        drop(turn);
        others
    }

    async fn refresh(&self, now_ms: u64) -> Result<Arc<Credentials>, String> {
        let learned = self.learn(now_ms).await;
        let mut held = self.held();
        match (learned, &mut *held) {
            (Ok(learned), held) => {
                let credentials = Arc::clone(&learned.credentials);
                *held = Some(learned);
                Ok(credentials)
            }
            (Err(why), Some(old)) if old.is_alive(now_ms) => {
                tracing::warn!(source = self.source.name(), why, "credentials not refreshed");
                let again_ms = now_ms.saturating_add(RETRY_MS);
                old.refresh_ms = again_ms.min(old.expires_ms.unwrap_or(u64::MAX));
                Ok(Arc::clone(&old.credentials))
            }
            (Err(why), Some(old)) => {
                let expired_ms = old.expires_ms.unwrap_or_default();
                Err(format!("they expired at {}, and {why}", http_date(expired_ms)))
            }
            (Err(why), None) => Err(why),
        }
    }

    async fn learn(&self, now_ms: u64) -> Result<HeldCredentials, String> {
        let told = |why: &dyn std::fmt::Display| format!("{}: {why}", self.source.name());
        let text = match &self.source {
            CredentialSource::Given(credentials) => {
                let credentials = Arc::new(credentials.clone());
                return Ok(HeldCredentials { credentials, expires_ms: None, refresh_ms: u64::MAX });
            }
            CredentialSource::Environment => {
                let credentials = Arc::new(self.of_environment().map_err(|why| told(&why))?);
                return Ok(HeldCredentials { credentials, expires_ms: None, refresh_ms: u64::MAX });
            }
            CredentialSource::File(path) => {
                let read = self.components.disk.read(path).await.map_err(|error| told(&error))?;
                read.ok_or_else(|| told(&"there is no such file; write it"))?
            }
            CredentialSource::Command(command) => {
                let output = self.output_of(command).await;
                output.map_err(|why| told(&why))?
            }
        };
        if text.len() > BYTES_MAX {
            return Err(told(&format!("it has more than {BYTES_MAX} bytes")));
        }
        let (credentials, expires_ms) = Credentials::from_json(&text).map_err(|why| told(&why))?;
        if expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
            let expired = http_date(expires_ms.unwrap_or_default());
            return Err(told(&format!("what it holds expired at {expired}; renew it")));
        }
        let refresh_ms = self.refresh_at(expires_ms, now_ms);
        Ok(HeldCredentials { credentials: Arc::new(credentials), expires_ms, refresh_ms })
    }

    fn of_environment(&self) -> Result<Credentials, String> {
        for [id, key, token] in VARIABLES {
            let variable = |name: &str| {
                let value = self.components.surroundings.variable(name);
                value.filter(|value| !value.is_empty())
            };
            let Some(access_id) = variable(id) else { continue };
            let access_key = variable(key);
            let access_key = access_key.ok_or_else(|| format!("{id} is set, {key} is not"))?;
            let credentials = Credentials {
                access_id,
                access_key: Secret::new(access_key),
                sts_token: variable(token).map(Secret::new),
            };
            return credentials.check().map(|()| credentials);
        }
        Err(format!("neither {} nor {} is set; set one", VARIABLES[0][0], VARIABLES[1][0]))
    }

    async fn output_of(&self, command: &[String]) -> Result<Vec<u8>, String> {
        let clock = &self.components.clock;
        let deadline = clock.now_ms().saturating_add(COMMAND_MS_MAX);
        tokio::select! {
            biased;
            output = self.components.surroundings.output_of(command, BYTES_MAX) => {
                output.map_err(|error| error.to_string())
            }
            () = clock.sleep_until(deadline) => {
                Err(format!("it did not end within {} s", COMMAND_MS_MAX / 1000))
            }
        }
    }

    /// After 4/5 of the time that is left, less up to a tenth of it: the writers of many sinks must
    /// not all refresh at once.
    fn refresh_at(&self, expires_ms: Option<u64>, now_ms: u64) -> u64 {
        let Some(expires_ms) = expires_ms else {
            return match self.source {
                CredentialSource::File(_) => now_ms.saturating_add(REREAD_MS),
                _ => u64::MAX,
            };
        };
        let life_ms = expires_ms.saturating_sub(now_ms);
        let mut random = [0; 8];
        self.components.entropy.fill(&mut random);
        let early_ms = u64::from_le_bytes(random) % (life_ms / 10 + 1);
        now_ms.saturating_add(life_ms / 5 * 4).saturating_sub(early_ms)
    }

    fn held(&self) -> MutexGuard<'_, Option<HeldCredentials>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of the vendor's newer tools, then those of its older ones.
const VARIABLES: [[&str; 3]; 2] = [
    [
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
    ],
    ["ODPS_ACCESS_ID", "ODPS_ACCESS_KEY", "ODPS_STS_TOKEN"],
];
const BYTES_MAX: usize = 64 << 10;
const COMMAND_MS_MAX: u64 = 30_000;
/// How often a file is read that does not say when its key expires.
const REREAD_MS: u64 = 60_000;
/// How long after a refresh that failed the next one is tried.
const RETRY_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use super::*;
    use crate::components::{BoxFuture, Surroundings};

    /// A program whose answers are known beforehand, and one variable.
    #[derive(Default)]
    struct Scripted(Mutex<VecDeque<&'static str>>);

    impl Surroundings for Scripted {
        fn variable(&self, name: &str) -> Option<String> {
            let variables = [("ODPS_ACCESS_ID", "old"), ("ODPS_ACCESS_KEY", "key")];
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| String::from(*value))
        }

        fn output_of(&self, _: &[String], _: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
            let next = self.0.lock().expect("no holder panics").pop_front();
            Box::pin(async move {
                // Somebody else gets a turn first.
                tokio::task::yield_now().await;
                next.map(|text| text.as_bytes().to_vec()).ok_or(io::ErrorKind::NotFound.into())
            })
        }
    }

    const ONE: &str = r#"{"AccessKeyId":"one","AccessKeySecret":"s1","SecurityToken":"t1",
        "Expiration":"1970-01-01T01:00:00Z"}"#;
    const TWO: &str = r#"{"AccessKeyId":"two","AccessKeySecret":"s2","SecurityToken":"t2",
        "Expiration":"1970-01-01T02:00:00Z"}"#;
    const HOUR: u64 = 3_600_000;

    fn keyring(source: &CredentialSource, script: &[&'static str]) -> Keyring {
        let surroundings = Scripted(Mutex::new(script.iter().copied().collect()));
        let surroundings = Arc::new(surroundings);
        Keyring::new(source, &Components { surroundings, ..Components::system() })
    }

    fn command(script: &[&'static str]) -> Keyring {
        keyring(&CredentialSource::Command(vec![String::from("get"), "--hush".into()]), script)
    }

    async fn id(keyring: &Keyring, now_ms: u64) -> Result<String, String> {
        keyring.current(now_ms).await.map(|credentials| credentials.access_id.clone())
    }

    #[tokio::test]
    async fn a_program_is_run_again_when_its_credentials_have_lived_most_of_their_life() {
        let keyring = command(&[ONE, TWO]);
        assert_eq!(id(&keyring, 0).await.as_deref(), Ok("one"));
        assert_eq!(id(&keyring, HOUR * 69 / 100).await.as_deref(), Ok("one"));
        assert_eq!(id(&keyring, HOUR * 81 / 100).await.as_deref(), Ok("two"));
    }

    #[tokio::test]
    async fn a_refresh_that_fails_leaves_the_old_until_they_expire_and_then_says_so() {
        let keyring = command(&[ONE, "{}", "hush", ONE, TWO]);
        assert_eq!(id(&keyring, 0).await.as_deref(), Ok("one"));
        assert_eq!(
            id(&keyring, HOUR - 20_000).await.as_deref(),
            Ok("one"),
            "an empty object is no answer"
        );
        assert_eq!(id(&keyring, HOUR - 19_000).await.as_deref(), Ok("one"), "not asked again yet");
        assert_eq!(id(&keyring, HOUR - 1).await.as_deref(), Ok("one"), "nor is `hush`");
        let error = id(&keyring, HOUR).await.expect_err("what it prints has expired");
        assert!(error.contains("expired at Thu, 01 Jan 1970 01:00:00 GMT"), "{error}");
        assert!(error.contains("the program get") && !error.contains("hush"), "{error}");
        assert_eq!(id(&keyring, HOUR).await.as_deref(), Ok("two"), "the next attempt is at once");
    }

    #[tokio::test]
    async fn one_refresh_is_under_way_and_the_others_do_not_wait_for_it() {
        let keyring = command(&[ONE, TWO]);
        let first = tokio::join!(id(&keyring, 0), id(&keyring, 0));
        assert_eq!(first, (Ok(String::from("one")), Ok(String::from("one"))));
        let due = HOUR - 1;
        let second = tokio::join!(id(&keyring, due), id(&keyring, due));
        assert_eq!(second, (Ok(String::from("two")), Ok(String::from("one"))));
    }

    #[tokio::test]
    async fn refused_credentials_are_replaced_if_there_are_others() {
        let keyring = command(&[ONE, ONE, TWO]);
        let one = keyring.current(0).await.expect("the first");
        assert!(keyring.instead_of(&one, 1).await.is_none(), "the same again");
        let two = keyring.instead_of(&one, 2).await.expect("others");
        assert_eq!(two.access_id, "two");
        let known = keyring.instead_of(&one, 3).await.expect("nothing has to be run for them");
        assert_eq!(known, two);
    }

    #[tokio::test]
    async fn a_file_is_read_again_every_minute() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.json");
        let keyring = keyring(&CredentialSource::File(path.clone()), &[]);
        let error = id(&keyring, 0).await.expect_err("there is none yet");
        assert!(error.contains("key.json: there is no such file"), "{error}");
        let write = |id: &str| {
            let text = format!(r#"{{"AccessKeyId":"{id}","AccessKeySecret":"s"}}"#);
            std::fs::write(&path, text).expect("written");
        };
        write("one");
        assert_eq!(id(&keyring, 0).await.as_deref(), Ok("one"));
        write("two");
        assert_eq!(id(&keyring, 59_999).await.as_deref(), Ok("one"));
        assert_eq!(id(&keyring, 60_000).await.as_deref(), Ok("two"));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(id(&keyring, 600_000).await.as_deref(), Ok("two"), "better than nothing");
    }

    #[tokio::test]
    async fn the_environment_has_two_spellings() {
        let keyring = keyring(&CredentialSource::Environment, &[]);
        assert_eq!(id(&keyring, 0).await.as_deref(), Ok("old"));
    }
}
