//! Reads the configuration that the command line asks for: a file, or one server given by flags.
//!
//! A file and a server given by flags exclude each other. Where one of the two was typed and the other comes from the
//! environment, the typed one counts, and the other's flags are ignored as far as they come from the environment. Values
//! are taken from clap's matches, which record where each came from.

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _};
use tracing::{Level, enabled, warn};

use crate::cli::Cli;
use crate::commands::output::print_error;
use crate::config::Config;
use crate::config::cursor::{Flag, closest};
use crate::config::env::Environment;
use crate::config::error::{ConfigError, Fault};
use crate::config::flags::{self, Server};
use redis_stream_core::redis_url::with_scheme;

/// The server that is polled where none is given.
const DEFAULT_URL: &str = "redis://localhost:6379";

/// The environment variables of flags begin with this.
const PREFIX: &str = "STREAMGAUGE_";

const SKIP_VERIFY: &str = "redis_tls_insecure_skip_verify";

/// Keys with the argument that overrides them, over a file too.
const OVERRIDES: [(&str, &str); 3] =
    [("web.listen", "listen"), ("poll.interval", "interval"), ("poll.shard", "shard")];

/// Keys below `targets[0]`, each with the argument that sets it.
const SETTINGS: [(&str, &str); 7] = [
    ("username", "redis_username"),
    ("password_file", "redis_password_file"),
    ("tls.ca_file", "redis_tls_ca_file"),
    ("tls.cert_file", "redis_tls_cert_file"),
    ("tls.key_file", "redis_tls_key_file"),
    ("tls.server_name", "redis_tls_server_name"),
    ("tls.insecure_skip_verify", SKIP_VERIFY),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum FlagOrigin {
    CommandLine,
    Environment,
}

struct Given {
    flag: Flag,
    origin: FlagOrigin,
}

enum Choice<'a> {
    File(&'a Path),
    Server(Server),
    /// The server at the default URL, as none is given.
    DefaultServer(Server),
}

/// Reads the configuration from a command's arguments; `--listen`, `--interval` and `--shard` override a file.
///
/// # Errors
///
/// The flags contradict each other, or all that is wrong in the flags and in the file.
pub fn read(args: &ArgMatches, environment: &Environment<'_>) -> Result<Config, ConfigError> {
    refuse_empty(args, &["stream", "server"])?;
    let overrides =
        OVERRIDES.into_iter().filter_map(|(key, id)| Some((key, given(args, id)?.flag))).collect();
    match choose(args, environment)? {
        Choice::File(path) => flags::over_file(path, &overrides, environment),
        Choice::Server(server) => flags::alone(&server, &overrides),
        Choice::DefaultServer(server) => {
            let advice = "set --redis-url or --config";
            if enabled!(Level::WARN) {
                warn!(url = DEFAULT_URL, "no server given, using the default; {advice}");
            } else {
                print_error(&format!("no server given, using {DEFAULT_URL}; {advice}"));
            }
            flags::alone(&server, &overrides)
        }
    }
}

/// Refuses an empty value on the command line, which is mostly a variable of a shell that is not set. `flags` are those, beside
/// the flags of servers, that may be left out.
///
/// # Errors
///
/// Names each such flag.
pub(super) fn refuse_empty(args: &ArgMatches, flags: &[&'static str]) -> Result<(), ConfigError> {
    let ids = OVERRIDES
        .iter()
        .chain(&SETTINGS)
        .map(|(_, id)| *id)
        .chain(["redis_url"])
        .chain(flags.iter().copied());
    let is_typed = |id: &&str| {
        args.try_contains_id(id).is_ok() && args.value_source(id) == Some(ValueSource::CommandLine)
    };
    let is_empty = |id: &&str| args.get_raw(id).into_iter().flatten().any(|text| text.is_empty());
    let fault = |id: &str| Fault {
        subject: format!("--{}", id.replace('_', "-")),
        message: "empty; expected a value, or leave the flag out".to_owned(),
    };
    let faults: Vec<_> = ids.filter(is_typed).filter(is_empty).map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
}

/// Reports the environment variables that are most likely misspelled flags, and are ignored.
pub fn report_misspelled(names: impl Iterator<Item = String>) {
    for (variable, meant) in misspelled(names) {
        if enabled!(Level::WARN) {
            warn!(variable, "unknown environment variable; did you mean {meant}?");
        } else {
            print_error(&format!("{variable}: unknown environment variable; did you mean {meant}?"));
        }
    }
}

/// Returns the unknown variables that are close to one of a flag, with that. Kubernetes sets some for a service that is called
/// streamgauge: those are left out.
fn misspelled(names: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let known = variables(&Cli::command());
    let known: Vec<_> = known.iter().filter_map(|name| name.strip_prefix(PREFIX)).collect();
    let is_of_service =
        |name: &str| name.ends_with("PORT") || name.ends_with("HOST") || name.contains("PORT_");
    let unknown = names.filter_map(|name| {
        let rest = name.strip_prefix(PREFIX).filter(|rest| !known.contains(rest) && !is_of_service(rest))?;
        let meant = format!("{PREFIX}{}", closest(rest, &known)?);
        Some((name, meant))
    });
    unknown.collect()
}

/// Returns the environment variables of a command and its subcommands.
fn variables(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// Returns lines about the source of the configuration that [`read`] has read.
pub(super) fn describe(args: &ArgMatches, environment: &Environment<'_>) -> Vec<String> {
    match (choose(args, environment), given(args, "config")) {
        (Ok(Choice::File(path)), _) => vec![format!("{} is valid", path.display())],
        (Ok(Choice::Server(server)), Some(config)) => {
            vec![format!("{} is ignored, since {} is given", config.flag.name, server.url.name)]
        }
        _ => Vec::new(),
    }
}

/// Returns `--server`, the running streamgauge to ask, unless something to poll is given in its place.
///
/// # Errors
///
/// Both are given, and both on the command line or both in the environment.
pub(super) fn running(args: &ArgMatches) -> Result<Option<Flag>, ConfigError> {
    let Some(running) = given(args, "server") else { return Ok(None) };
    let polled: Vec<_> = ["config", "redis_url"].iter().filter_map(|id| given(args, id)).collect();
    let is_typed_instead = |polled: &Given| {
        polled.origin == FlagOrigin::CommandLine && running.origin == FlagOrigin::Environment
    };
    if polled.iter().any(is_typed_instead) {
        return Ok(None);
    }
    match polled.iter().find(|polled| polled.origin == running.origin) {
        Some(polled) => Err(given_too(&running.flag, &polled.flag)),
        None => Ok(Some(running.flag)),
    }
}

/// Returns the server given by flags, or by `REDIS_URL` where no flag has a URL.
pub(super) fn server(args: &ArgMatches, environment: &Environment<'_>) -> Option<Server> {
    let fallback = || {
        let text = environment("REDIS_URL").filter(|url| !url.is_empty())?;
        Some(Flag { name: "REDIS_URL".to_owned(), text })
    };
    let url = given(args, "redis_url").map(|given| given.flag).or_else(fallback)?;
    Some(server_at(Flag { text: with_scheme(&url.text).into_owned(), ..url }, args))
}

fn server_at(url: Flag, args: &ArgMatches) -> Server {
    let settings = settings(args).map(|(key, given)| (key, given.flag)).collect();
    Server { url, settings, streams: Vec::new() }
}

fn default_server(args: &ArgMatches) -> Server {
    server_at(Flag { name: "--redis-url".to_owned(), text: DEFAULT_URL.to_owned() }, args)
}

fn choose<'a>(args: &'a ArgMatches, environment: &Environment<'_>) -> Result<Choice<'a>, ConfigError> {
    let file = given(args, "config").zip(args.try_get_one::<PathBuf>("config").ok().flatten());
    match (file, given(args, "redis_url")) {
        (Some((file, _)), Some(url)) if file.origin == url.origin => Err(given_too(&file.flag, &url.flag)),
        (Some((file, path)), url) if url.is_none() || file.origin == FlagOrigin::CommandLine => {
            refuse_server_flags(args, &file)?;
            Ok(Choice::File(path))
        }
        _ => {
            let streams = all_given(args, "stream").map(|given| given.flag).collect();
            Ok(match server(args, environment) {
                Some(server) => Choice::Server(Server { streams, ..server }),
                None => Choice::DefaultServer(Server { streams, ..default_server(args) }),
            })
        }
    }
}

fn refuse_server_flags(args: &ArgMatches, file: &Given) -> Result<(), ConfigError> {
    let others = settings(args).map(|(_, given)| given).chain(given(args, "stream"));
    let contradicts = |other: &Given| other.origin == FlagOrigin::CommandLine || other.origin == file.origin;
    let fault = |other: Given| Fault {
        subject: other.flag.name,
        message: format!("goes with --redis-url, not with {}; expected it in the file", file.flag.name),
    };
    let faults: Vec<_> = others.filter(contradicts).map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
}

fn given_too(flag: &Flag, other: &Flag) -> ConfigError {
    ConfigError::one(flag.name.clone(), format!("{} is given too; expected one of them", other.name))
}

fn settings(args: &ArgMatches) -> impl Iterator<Item = (&'static str, Given)> + '_ {
    SETTINGS.into_iter().filter_map(|(key, id)| {
        let mut given = given(args, id)?;
        if id == SKIP_VERIFY {
            if !args.get_flag(id) {
                return None;
            }
            // A variable may hold any word that clap takes for true.
            "true".clone_into(&mut given.flag.text);
        }
        Some((key, given))
    })
}

fn given(args: &ArgMatches, id: &str) -> Option<Given> {
    all_given(args, id).next()
}

/// Returns the values of an argument, none where the command has no such argument. Empty text counts as absent: compose
/// files set it for a variable without a value.
fn all_given<'a>(args: &'a ArgMatches, id: &'a str) -> impl Iterator<Item = Given> + 'a {
    let texts = args.try_get_raw(id).ok().flatten().into_iter().flatten();
    let texts = texts.map(|text| text.to_string_lossy().into_owned()).filter(|text| !text.is_empty());
    texts.map(move |text| {
        let (origin, name) = match args.value_source(id) {
            Some(ValueSource::CommandLine) => {
                (FlagOrigin::CommandLine, format!("--{}", id.replace('_', "-")))
            }
            _ => (FlagOrigin::Environment, format!("STREAMGAUGE_{}", id.to_uppercase())),
        };
        Given { flag: Flag { name, text }, origin }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::Duration;

    use clap::{Arg, CommandFactory as _};

    use super::{misspelled, read};
    use crate::cli::Cli;
    use crate::config::Config;
    use crate::config::topology::Topology;
    use redis_stream_core::redis_url::Endpoint;
    use redis_stream_core::secret::Secret;
    use redis_stream_core::tls::Verification;

    const FILE: &str =
        "poll: {interval: 10s}\nweb: {listen: '127.0.0.1:1'}\ntargets: [{url: 'redis://filed'}]\n";

    #[test]
    fn a_misspelled_variable_is_found_and_none_of_a_kubernetes_service() {
        let names = [
            "STREAMGAUGE_INTERVALL",
            "STREAMGAUGE_STREAMS",
            "STREAMGAUGE_INTERVAL",
            "STREAMGAUGE_PORT",
            "STREAMGAUGE_SERVICE_HOST",
            "STREAMGAUGE_PORT_10121_TCP_PROTO",
            "STREAMGAUGE_SOMETHING_ELSE",
            "STREAMGAUG_INTERVAL",
        ];
        let found = misspelled(names.into_iter().map(str::to_owned));
        let found: Vec<_> = found.iter().map(|(name, meant)| format!("{name} {meant}")).collect();
        let expected =
            ["STREAMGAUGE_INTERVALL STREAMGAUGE_INTERVAL", "STREAMGAUGE_STREAMS STREAMGAUGE_STREAM"];
        assert_eq!(found, expected);
    }

    /// Runs `streamgauge serve` up to its configuration. `FILE` in an argument or variable is the path of a
    /// file with the text above.
    fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streamgauge.yaml");
        fs::write(&path, FILE).unwrap();
        let with_path = |text: &str| text.replace("FILE", path.to_str().unwrap());
        let variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), with_path(value))).collect();
        // The real environment cannot be changed while tests run side by side: defaults stand in for variables.
        let with_variable = |arg: Arg| {
            let value = variables.get(&format!("STREAMGAUGE_{}", arg.get_id().as_str().to_uppercase()));
            match value {
                Some(value) => arg.default_value(&*value.clone().leak()),
                None => arg,
            }
        };
        let command = Cli::command().mut_subcommand("serve", |serve| serve.mut_args(with_variable));
        let program = ["streamgauge".to_owned(), "serve".to_owned()];
        let arguments = arguments.iter().map(|argument| with_path(argument));
        let matches = command.try_get_matches_from(program.into_iter().chain(arguments)).unwrap();
        let (_, serve) = matches.subcommand().unwrap();
        read(serve, &|name| variables.get(name).cloned())
            .map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"))
    }

    fn host(config: &Config) -> &str {
        match &config.targets[0].topology {
            Topology::Standalone(Endpoint::Tcp(address)) => &address.host,
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
            (&["--redis-url", "flagged"], &[], "flagged"),
            (&["--redis-url", "valkey://flagged:1/2"], &[], "flagged"),
            (&[], &[("REDIS_URL", "variable:6380")], "variable"),
            (&[], &[], "localhost"),
            (&["--stream", "a"], &[("REDIS_URL", ""), ("STREAMGAUGE_REDIS_URL", "")], "localhost"),
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
        let url_too = "--config: --redis-url is given too; expected one of them";
        let variables_too = "STREAMGAUGE_CONFIG: STREAMGAUGE_REDIS_URL is given too; expected one of them";
        let in_the_file = "--stream: goes with --redis-url, not with --config; expected it in the file";
        let user_in_the_file = "STREAMGAUGE_REDIS_USERNAME: goes with --redis-url, not with STREAMGAUGE_CONFIG; expected it in the file";
        for (arguments, variables, message) in [
            (&["--config", "FILE", "--redis-url", "redis://flagged"][..], &[][..], url_too),
            (&[], &[("STREAMGAUGE_CONFIG", "FILE"), ("STREAMGAUGE_REDIS_URL", "redis://v")], variables_too),
            (&["--config", "FILE", "--stream", "a", "--stream", "b"], &[], in_the_file),
            (&[], &[("STREAMGAUGE_CONFIG", "FILE"), ("STREAMGAUGE_REDIS_USERNAME", "u")], user_in_the_file),
        ] {
            assert_eq!(serve(arguments, variables), Err(message.to_owned()), "{arguments:?} {variables:?}");
        }
    }

    #[test]
    fn an_empty_flag_is_refused_and_an_empty_variable_is_none() {
        let refused = |flag: &str| Err(format!("{flag}: empty; expected a value, or leave the flag out"));
        for flag in ["--redis-url", "--stream", "--interval", "--redis-username"] {
            assert_eq!(serve(&[flag, ""], &[]).map(|_| ()), refused(flag));
        }
        assert_eq!(
            serve(&["--redis-url", "redis://flagged", "--stream", "a", "--stream", ""], &[]).map(|_| ()),
            refused("--stream")
        );
        let config = serve(&["--redis-url", "redis://flagged"], &[("STREAMGAUGE_STREAM", "")]).unwrap();
        assert_eq!(config.targets[0].streams[0].key.pattern(), b"*");
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
        assert_eq!(
            target.password.as_ref().and_then(|it| it.configured()).unwrap().read().unwrap(),
            Secret::new("hunter2")
        );
        let keys: Vec<_> = target.streams.iter().map(|stream| stream.key.pattern()).collect();
        assert_eq!(keys, [&b"a*"[..], b"b\xff"]);
        assert_eq!(config.poll.timeout, Duration::from_secs(8));
        assert_eq!(config.web.listen, None);
    }

    #[test]
    fn faults_name_the_flag_or_the_variable() {
        let arguments = [
            "--redis-url",
            "redis+tls://hunter2@flagged",
            "--interval",
            "ten",
            "--redis-password-file",
            "/no",
        ];
        assert_eq!(
            serve(&arguments, &[("STREAMGAUGE_LISTEN", "here")]).unwrap_err(),
            "STREAMGAUGE_LISTEN: found \"here\"; expected an address and port such as 0.0.0.0:10121 or [::]:10121\n\
             --interval: found \"ten\"; expected a duration such as 10s or 1m 30s\n\
             --redis-url: redis+tls:// is not understood; expected rediss://\n\
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
            serve(&["--redis-url", "redis://flagged", "--redis-tls-server-name", "x"], &by_variable)
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
