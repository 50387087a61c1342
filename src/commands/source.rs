//! From the command line to a configuration: which of file and server counts, and what is a contradiction.
//!
//! A file and a server given by flags exclude each other. Where one of the two was typed and the other comes
//! from the environment, what was typed counts and the rest of the other's flags are ignored as far as they
//! come from the environment, too. A value that equals its variable counts as coming from there; clap does
//! not say which it was, and in the one case where both are the same text the guess does no harm.

use std::path::{Path, PathBuf};

use crate::cli;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::error::{ConfigError, Fault};
use crate::config::flags::{self, Overrides, Server};
use crate::config::tree::Flag;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    CommandLine,
    Environment,
}

/// Where the configuration is to come from.
#[derive(Debug)]
enum Choice<'s> {
    File(&'s Path),
    Server(Server),
}

/// A flag that was given, by whom.
struct Given {
    flag: Flag,
    origin: Origin,
}

/// The configuration that the flags ask for. `listen` is the flag of that name, where the command has one.
///
/// # Errors
///
/// The flags contradict each other or say nothing to poll, or all that is wrong in them and in the file.
pub fn read(
    source: &cli::Source,
    listen: Option<&str>,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    let flag = |name, text: Option<&str>| given(name, text, environment).map(|given| given.flag);
    let overrides = Overrides {
        listen: flag("listen", listen),
        interval: flag("interval", source.interval.as_deref()),
        shard: flag("shard", source.shard.as_deref()),
    };
    configuration(&source.polled, &overrides, environment)
}

/// The same, with nothing over what a file says.
///
/// # Errors
///
/// Those of [`read`].
pub(super) fn read_polled(
    polled: &cli::Polled,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    configuration(polled, &Overrides::default(), environment)
}

fn configuration(
    polled: &cli::Polled,
    overrides: &Overrides,
    environment: &Environment<'_>,
) -> Result<Config, ConfigError> {
    match choose(polled, environment)? {
        Choice::File(path) => flags::over_file(path, overrides, environment),
        Choice::Server(server) => flags::alone(&server, overrides),
    }
}

/// The running streamgauge that is to be asked, unless something to poll is given in its place.
///
/// # Errors
///
/// Both are given, neither of them rather than the other.
pub(super) fn running(
    server: Option<&str>,
    polled: &cli::Polled,
    environment: &Environment<'_>,
) -> Result<Option<Flag>, ConfigError> {
    let Some(asked) = given("server", server, environment) else { return Ok(None) };
    let others = [
        given("config", text_of(polled.config.as_ref()).as_deref(), environment),
        given("redis-url", polled.server.redis_url.as_deref(), environment),
    ];
    let typed_instead = |other: &Given| other.origin == Origin::CommandLine && asked.origin != other.origin;
    if others.iter().flatten().any(typed_instead) {
        return Ok(None);
    }
    match others.into_iter().flatten().find(|other| other.origin == asked.origin) {
        Some(other) => Err(ConfigError::one(
            asked.flag.name,
            format!("{} is given too; expected one of them", other.flag.name),
        )),
        None => Ok(Some(asked.flag)),
    }
}

fn choose<'s>(polled: &'s cli::Polled, environment: &Environment<'_>) -> Result<Choice<'s>, ConfigError> {
    let path = polled.config.as_deref().filter(|path| !path.as_os_str().is_empty());
    let file = path.map(|path| (path, origin("config", &path.to_string_lossy(), environment)));
    let url = given("redis-url", polled.server.redis_url.as_deref(), environment);
    match (file, url) {
        (Some((_, file_origin)), Some(url)) if file_origin == url.origin => Err(ConfigError::one(
            shown("config", file_origin),
            format!("{} is given too; expected one of them", url.flag.name),
        )),
        (Some((path, Origin::CommandLine)), _) => file_alone(path, Origin::CommandLine, polled, environment),
        (_, Some(url)) => Ok(Choice::Server(at(url.flag, polled, environment))),
        (Some((path, origin)), None) => file_alone(path, origin, polled, environment),
        (None, None) => match environment("REDIS_URL").filter(|url| !url.is_empty()) {
            Some(text) => {
                let url = Flag { name: "REDIS_URL".to_owned(), text };
                Ok(Choice::Server(at(url, polled, environment)))
            }
            None => Err(ConfigError::one(
                "--config",
                "missing, and --redis-url too; expected a file, or the URL of a server (REDIS_URL may hold it)",
            )),
        },
    }
}

/// The file, unless flags are given that go with a server only.
fn file_alone<'s>(
    path: &'s Path,
    file_origin: Origin,
    polled: &cli::Polled,
    environment: &Environment<'_>,
) -> Result<Choice<'s>, ConfigError> {
    let settings = settings(&polled.server, environment).map(|(_, given)| given);
    let others = settings.chain(streams(polled, environment).into_iter().next());
    let contradicts = |other: &Given| other.origin == Origin::CommandLine || other.origin == file_origin;
    let fault = |other: Given| Fault {
        subject: other.flag.name,
        message: format!(
            "goes with --redis-url, not with {}; expected it in the file",
            shown("config", file_origin)
        ),
    };
    let faults: Vec<_> = others.filter(contradicts).map(fault).collect();
    if faults.is_empty() { Ok(Choice::File(path)) } else { Err(ConfigError { faults }) }
}

/// The server at a URL, and what to poll there.
fn at(url: Flag, polled: &cli::Polled, environment: &Environment<'_>) -> Server {
    let streams = streams(polled, environment).into_iter().map(|given| given.flag).collect();
    server(url, &polled.server, streams, environment)
}

/// The URL of the server, if one is given.
pub(super) fn url(server: &cli::Server, environment: &Environment<'_>) -> Option<Flag> {
    given("redis-url", server.redis_url.as_deref(), environment).map(|given| given.flag)
}

/// The server that is given by flags, at `url`.
pub(super) fn server(
    url: Flag,
    server: &cli::Server,
    streams: Vec<Flag>,
    environment: &Environment<'_>,
) -> Server {
    let settings = settings(server, environment).map(|(key, given)| (key, given.flag)).collect();
    Server { url, settings, streams }
}

/// What flags say of a server besides its URL, with the key of a target that each stands for.
fn settings(
    server: &cli::Server,
    environment: &Environment<'_>,
) -> impl Iterator<Item = (&'static str, Given)> {
    let cli::Server { redis_username, redis_password_file, tls, .. } = server;
    let text = |key, name, text: Option<&str>| Some((key, given(name, text, environment)?));
    let path = |key, name, path: &Option<PathBuf>| text(key, name, text_of(path.as_ref()).as_deref());
    let skips = "redis-tls-insecure-skip-verify";
    let skips = tls.redis_tls_insecure_skip_verify.then(|| switch(skips, environment));
    let settings = [
        text("username", "redis-username", redis_username.as_deref()),
        path("password_file", "redis-password-file", redis_password_file),
        path("tls.ca_file", "redis-tls-ca-file", &tls.redis_tls_ca_file),
        path("tls.cert_file", "redis-tls-cert-file", &tls.redis_tls_cert_file),
        path("tls.key_file", "redis-tls-key-file", &tls.redis_tls_key_file),
        text("tls.server_name", "redis-tls-server-name", tls.redis_tls_server_name.as_deref()),
        skips.map(|given| ("tls.insecure_skip_verify", given)),
    ];
    settings.into_iter().flatten()
}

fn streams(polled: &cli::Polled, environment: &Environment<'_>) -> Vec<Given> {
    let origin = origin("stream", &polled.stream.join("\n"), environment);
    let given =
        |text: &String| Given { flag: Flag { name: shown("stream", origin), text: text.clone() }, origin };
    polled.stream.iter().filter(|text| !text.is_empty()).map(given).collect()
}

/// A flag by its long name. Empty text is as good as none: that is what compose files set for an absent value.
fn given(name: &str, text: Option<&str>, environment: &Environment<'_>) -> Option<Given> {
    let text = text.filter(|text| !text.is_empty())?;
    let origin = origin(name, text, environment);
    Some(Given { flag: Flag { name: shown(name, origin), text: text.to_owned() }, origin })
}

/// A flag without a value, which is set.
fn switch(name: &str, environment: &Environment<'_>) -> Given {
    let origin = match environment(&variable(name)) {
        Some(_) => Origin::Environment,
        None => Origin::CommandLine,
    };
    Given { flag: Flag { name: shown(name, origin), text: "true".to_owned() }, origin }
}

fn origin(name: &str, text: &str, environment: &Environment<'_>) -> Origin {
    match environment(&variable(name)) {
        Some(value) if value == text => Origin::Environment,
        _ => Origin::CommandLine,
    }
}

/// What the user called it.
fn shown(name: &str, origin: Origin) -> String {
    match origin {
        Origin::CommandLine => format!("--{name}"),
        Origin::Environment => variable(name),
    }
}

fn variable(name: &str) -> String {
    format!("STREAMGAUGE_{}", name.to_uppercase().replace('-', "_"))
}

fn text_of(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::Duration;

    use clap::Parser;

    use super::read;
    use crate::cli::{Cli, Command};
    use crate::config::Config;
    use crate::config::topology::Topology;
    use redis_stream_core::redis_url::Place;
    use redis_stream_core::secret::Secret;
    use redis_stream_core::tls::Verification;

    const FILE: &str =
        "poll: {interval: 10s}\nweb: {listen: '127.0.0.1:1'}\ntargets: [{url: 'redis://filed'}]\n";

    /// Runs `streamgauge serve` up to its configuration. `FILE` in an argument or variable is the path of a
    /// file with the text above.
    fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streamgauge.yaml");
        fs::write(&path, FILE).unwrap();
        let with_path = |text: &str| text.replace("FILE", path.to_str().unwrap());
        let variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), with_path(value))).collect();
        let mut arguments: Vec<_> = arguments.iter().map(|argument| with_path(argument)).collect();
        // Clap reads the real environment, which tests that run side by side cannot change: it is given what
        // it would have taken from there.
        for flag in ["config", "redis-url", "redis-username", "interval", "listen", "stream"] {
            let typed = arguments.contains(&format!("--{flag}"));
            if let Some(value) = variables.get(&super::variable(flag)).filter(|_| !typed) {
                arguments.extend([format!("--{flag}"), value.clone()]);
            }
        }
        let program = ["streamgauge".to_owned(), "serve".to_owned()];
        let cli = Cli::try_parse_from(program.into_iter().chain(arguments)).unwrap();
        let Command::Serve(serve) = cli.command else { panic!("not serve") };
        read(&serve.source, serve.listen.as_deref(), &|name| variables.get(name).cloned())
            .map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"))
    }

    fn host(config: &Config) -> &str {
        match &config.targets[0].topology {
            Topology::Standalone(Place::Tcp(address)) => &address.host,
            other => panic!("{other} is not one server over TCP"),
        }
    }

    #[test]
    fn a_file_or_a_server() {
        for (arguments, variables, polled) in [
            (&["--config", "FILE"][..], &[][..], "filed"),
            (&["--redis-url", "redis://flagged"], &[], "flagged"),
            (&[], &[("STREAMGAUGE_CONFIG", "FILE")], "filed"),
            (&[], &[("REDIS_URL", "redis://variable")], "variable"),
            (&["--config", "FILE"], &[("REDIS_URL", "redis://variable")], "filed"),
            (&["--redis-url", "redis://flagged"], &[("REDIS_URL", "redis://variable")], "flagged"),
            (&["--redis-url", "redis://flagged"], &[("STREAMGAUGE_CONFIG", "FILE")], "flagged"),
            (&["--config", "FILE"], &[("STREAMGAUGE_REDIS_URL", "redis://variable")], "filed"),
            (&["--config", "FILE"], &[("STREAMGAUGE_STREAM", "a\nb")], "filed"),
            (&["--config", "FILE"], &[("STREAMGAUGE_REDIS_URL", "")], "filed"),
        ] {
            assert_eq!(
                serve(arguments, variables).as_ref().map(host),
                Ok(polled),
                "{arguments:?} {variables:?}"
            );
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let nothing = "--config: missing, and --redis-url too; expected a file, or the URL of a server (REDIS_URL may hold it)";
        let url_too = "--config: --redis-url is given too; expected one of them";
        let variables_too = "STREAMGAUGE_CONFIG: STREAMGAUGE_REDIS_URL is given too; expected one of them";
        let in_the_file = "--stream: goes with --redis-url, not with --config; expected it in the file";
        let user_in_the_file = "STREAMGAUGE_REDIS_USERNAME: goes with --redis-url, not with STREAMGAUGE_CONFIG; expected it in the file";
        for (arguments, variables, message) in [
            (&[][..], &[][..], nothing),
            (&["--stream", "a"], &[("REDIS_URL", "")], nothing),
            (&["--config", "FILE", "--redis-url", "redis://flagged"], &[], url_too),
            (&[], &[("STREAMGAUGE_CONFIG", "FILE"), ("STREAMGAUGE_REDIS_URL", "redis://v")], variables_too),
            (&["--config", "FILE", "--stream", "a", "--stream", "b"], &[], in_the_file),
            (&[], &[("STREAMGAUGE_CONFIG", "FILE"), ("STREAMGAUGE_REDIS_USERNAME", "u")], user_in_the_file),
        ] {
            assert_eq!(serve(arguments, variables), Err(message.to_owned()), "{arguments:?} {variables:?}");
        }
    }

    #[test]
    fn flags_over_a_file() {
        let config =
            serve(&["--config", "FILE", "--interval", "5s", "--listen", "127.0.0.1:2"], &[]).unwrap();
        assert_eq!(config.poll.interval, Duration::from_secs(5));
        assert_eq!(config.poll.timeout, Duration::from_secs(4));
        assert_eq!(config.poll.stale_after, Duration::from_secs(15));
        assert_eq!(config.web.listen, "127.0.0.1:2".parse().ok());
    }

    #[test]
    fn flags_alone_have_the_defaults_of_a_file() {
        let arguments =
            ["--redis-url", "redis://monitor:hunter2@flagged/3", "--stream", "a*", "--stream", "b\\xff"];
        let config = serve(&arguments, &[]).unwrap();
        let target = &config.targets[0];
        assert_eq!((target.name.as_str(), target.username.as_deref()), ("flagged:6379/3", Some("monitor")));
        assert_eq!(target.password.as_ref().unwrap().read().unwrap(), Secret::new("hunter2"));
        let keys: Vec<_> = target.streams.iter().map(|stream| stream.key.pattern()).collect();
        assert_eq!(keys, [&b"a*"[..], b"b\xff"]);
        assert_eq!(config.poll.timeout, Duration::from_secs(8));
        assert_eq!(config.web.listen, None);
    }

    #[test]
    fn faults_name_the_flag_or_the_variable() {
        let arguments =
            ["--redis-url", "valkeys://hunter2@flagged", "--interval", "ten", "--redis-password-file", "/no"];
        assert_eq!(
            serve(&arguments, &[("STREAMGAUGE_LISTEN", "here")]).unwrap_err(),
            "STREAMGAUGE_LISTEN: found \"here\"; expected an address and port such as 0.0.0.0:10121 or [::]:10121\n\
             --interval: found \"ten\"; expected a duration such as 10s or 1m 30s\n\
             --redis-url: valkeys:// is not understood; expected rediss://\n\
             --redis-password-file: cannot read /no: No such file or directory (os error 2); expected a readable file"
        );
        let user = serve(&["--redis-url", "redis://user@flagged"], &[]).unwrap_err();
        assert_eq!(user, "--redis-url: a user without a password; expected a password too");
        let file = serve(&["--config", "/nowhere.yaml", "--interval", "ten"], &[]).unwrap_err();
        assert_eq!(file, "/nowhere.yaml: cannot read the file: No such file or directory (os error 2)");
    }

    #[test]
    fn tls_is_said_by_flags_as_in_a_file() {
        let secured = ["--redis-url", "rediss://flagged", "--redis-tls-server-name", "cache.internal"];
        let config = serve(&[&secured[..], &["--redis-tls-insecure-skip-verify"]].concat(), &[]).unwrap();
        let tls = &config.targets[0].tls;
        assert_eq!(tls.server_name.as_deref(), Some("cache.internal"));
        assert_eq!(tls.verification, Verification::Skipped);
        let no_file = serve(&[&secured[..], &["--redis-tls-ca-file", "/no"]].concat(), &[]).unwrap_err();
        assert_eq!(
            no_file,
            "--redis-tls-ca-file: cannot read /no: No such file or directory (os error 2); expected a readable file"
        );
        let skip = "--redis-tls-insecure-skip-verify";
        let by_variable = [("STREAMGAUGE_REDIS_TLS_INSECURE_SKIP_VERIFY", "1")];
        assert_eq!(
            serve(&["--redis-url", "redis://flagged", "--redis-tls-server-name", "x", skip], &by_variable)
                .unwrap_err(),
            "--redis-tls-server-name: goes with rediss://; expected that in the URL\n\
             STREAMGAUGE_REDIS_TLS_INSECURE_SKIP_VERIFY: goes with rediss://; expected that in the URL"
        );
        assert_eq!(
            serve(&["--config", "FILE", skip], &[]).unwrap_err(),
            "--redis-tls-insecure-skip-verify: goes with --redis-url, not with --config; expected it in the file"
        );
    }

    #[test]
    fn an_environment_variable_is_never_put_into_a_flag_again() {
        let config =
            serve(&["--redis-url", "redis://flagged", "--stream", "${HOME}"], &[("HOME", "x")]).unwrap();
        assert_eq!(config.targets[0].streams[0].key.pattern(), b"${HOME}");
    }
}
