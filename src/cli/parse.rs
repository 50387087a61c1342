//! Parses the command line. Errors are clap's, without the secrets that it would quote (a misplaced URL may hold a
//! password), and without characters that act on a terminal.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, Error};
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use super::Cli;
use crate::format::unicode::printable;
use redis_stream_core::secret::redact;

/// Parses the command line, the program's name first. Returns the matches of the subcommand too, since only they record
/// where a value came from.
///
/// # Errors
///
/// The requested help or version, or what is wrong; safe to print.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Cli, ArgMatches), Error> {
    let mut matches = Cli::command().try_get_matches_from(arguments).map_err(safe)?;
    let cli = Cli::from_arg_matches(&matches).map_err(safe)?;
    let (_, args) = matches.remove_subcommand().unwrap_or_default();
    Ok((cli, args))
}

fn safe(error: Error) -> Error {
    if error.context().all(|(_, value)| is_shown_whole(value)) {
        return error;
    }
    // A new error, since text from the parser of a value cannot be removed and may quote the value.
    let mut safe = Error::new(error.kind()).with_cmd(&Cli::command());
    for (kind, value) in error.context() {
        // Suggestions repeat the argument.
        if kind != ContextKind::Suggested {
            safe.insert(kind, quoted(value));
        }
    }
    if error.context().any(|(_, value)| holds_a_secret(value)) {
        let tip = StyledStr::from("use --redis-url for the URL of a server: --redis-url redis://host:port");
        safe.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    safe
}

/// Returns the texts that may contain an argument. Styled text never does here.
fn texts(value: &ContextValue) -> &[String] {
    match value {
        ContextValue::String(text) => std::slice::from_ref(text),
        ContextValue::Strings(texts) => texts,
        _ => &[],
    }
}

fn holds_a_secret(value: &ContextValue) -> bool {
    texts(value).iter().any(|text| redact(text) != *text)
}

fn is_shown_whole(value: &ContextValue) -> bool {
    texts(value).iter().all(|text| quoted_text(text) == *text)
}

fn quoted_text(text: &str) -> String {
    printable(&redact(text)).into_owned()
}

fn quoted(value: &ContextValue) -> ContextValue {
    match value {
        ContextValue::String(one) => ContextValue::String(quoted_text(one)),
        ContextValue::Strings(several) => {
            ContextValue::Strings(several.iter().map(|text| quoted_text(text)).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &str) -> String {
        let arguments = ["streamgauge"].into_iter().chain(arguments.split(' ')).map(OsString::from);
        parse(arguments).unwrap_err().to_string()
    }

    #[test]
    fn a_stray_url_is_named_and_not_shown() {
        insta::assert_snapshot!(said("serve redis://:hunter2@cache"), @r"
        error: unexpected argument 'redis://[hidden]' found

          tip: use --redis-url for the URL of a server: --redis-url redis://host:port

        Usage: streamgauge serve [OPTIONS]

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(said("redis://:hunter2@cache"), @r"
        error: unrecognized subcommand 'redis://[hidden]'

          tip: use --redis-url for the URL of a server: --redis-url redis://host:port

        Usage: streamgauge [OPTIONS] <COMMAND>

        For more information, try '--help'.
        ");
    }

    #[test]
    fn a_wrong_value_keeps_its_flag() {
        insta::assert_snapshot!(said("produce --stream s --count redis://:hunter2@cache"), @r"
        error: invalid value 'redis://[hidden]' for '--count <N>'

          tip: use --redis-url for the URL of a server: --redis-url redis://host:port

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(said("serve --log-level redis://:hunter2@cache"), @r"
        error: invalid value 'redis://[hidden]' for '--log-level <LEVEL>'
          [possible values: error, warn, info, debug, trace]

          tip: use --redis-url for the URL of a server: --redis-url redis://host:port

        For more information, try '--help'.
        ");
    }

    #[test]
    fn an_unknown_flag_keeps_its_name() {
        insta::assert_snapshot!(said("check --redis-ur=redis://:hunter2@cache"), @r"
        error: unexpected argument '--redis-ur' found

          tip: a similar argument exists: '--redis-url'

        Usage: streamgauge check --redis-url <URL>

        For more information, try '--help'.
        ");
    }

    #[test]
    fn what_holds_no_secret_is_said_as_clap_says_it() {
        insta::assert_snapshot!(said("serve --intervall 10s"), @r"
        error: unexpected argument '--intervall' found

          tip: a similar argument exists: '--interval'

        Usage: streamgauge serve --interval <DURATION>

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(said("produce --stream s --count ten"), @r"
        error: invalid value 'ten' for '--count <N>': invalid digit found in string

        For more information, try '--help'.
        ");
    }
}
