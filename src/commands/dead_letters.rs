//! `streamgauge dead-letters`: lists the dead letters of a stream, shows, replays or drops them.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::ArgMatches;
use serde_json::{Value, json};

use crate::api;
use crate::cli::{self, DeadLettersAction};
use crate::commands::exit_code::UsageError;
use crate::commands::output::{self, terminal_width};
use crate::commands::redis_args;
use crate::format::unicode::printable;
use crate::format::units::count;
use crate::terminal::fields::ListedField;
use crate::terminal::letters::{self, ListedLetter};
use redis_stream_consumer::dead_letters::{
    DeadLetters, DeadLettersConfig, Execution, FieldNames, Letter, LetterSelection, Outcome, ReplayOptions,
};
use redis_stream_consumer::entry::StreamId;
use redis_stream_core::escape::escape;
use redis_stream_core::name::Name;
use tokio_util::sync::CancellationToken;

/// Letters that `list` and `show` print where no limit is given.
const SHOWN: u64 = 100;

/// Lists, shows, replays or drops letters. `shutdown` ends a replay after the letters that were sent.
///
/// # Errors
///
/// A usage error for invalid flags; otherwise an error of the server, or letters that could not be replayed.
pub async fn run(
    args: &cli::DeadLettersArgs,
    matches: &ArgMatches,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    check_flags(args)?;
    let selection = selection(args)?;
    let mut letters = DeadLetters::open(&config(args, matches)?).await.map_err(redis_args::classify)?;
    match args.action {
        DeadLettersAction::List | DeadLettersAction::Show => tokio::select! {
            result = print(args, &mut letters, selection) => result,
            () = shutdown.cancelled() => Ok(()),
        },
        DeadLettersAction::Replay | DeadLettersAction::Drop => {
            change(args, &mut letters, selection, &shutdown).await
        }
    }
}

/// Refuses flags that the action does not have.
fn check_flags(args: &cli::DeadLettersArgs) -> Result<(), UsageError> {
    let changes = matches!(args.action, DeadLettersAction::Replay | DeadLettersAction::Drop);
    let replays = args.action == DeadLettersAction::Replay;
    let faults = [
        (args.execute && !changes, "--execute is for replay and drop only"),
        (args.to.is_some() && !replays, "--to is for replay only"),
        (args.rate > 0.0 && !replays, "--rate is for replay only"),
    ];
    match faults.into_iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, text)) => Err(UsageError(text.to_owned())),
        None => Ok(()),
    }
}

/// Returns the bytes of a name, in which `\xHH` is a byte, as in every other place that shows names.
fn bytes(text: &str) -> Vec<u8> {
    Name::from_text(text).as_bytes().to_vec()
}

fn given(text: Option<&String>) -> Option<Vec<u8>> {
    text.filter(|text| !text.is_empty()).map(|text| bytes(text))
}

fn config(args: &cli::DeadLettersArgs, matches: &ArgMatches) -> anyhow::Result<DeadLettersConfig> {
    Ok(DeadLettersConfig {
        connect: redis_args::read(matches)?,
        stream: given(args.stream.as_ref()),
        dead_letter: given(args.dead_letter.as_ref()),
        names: field_names(&args.letter_field)?,
    })
}

fn field_names(given: &[String]) -> Result<FieldNames, UsageError> {
    let mut names = FieldNames::default();
    for text in given.iter().filter(|text| !text.is_empty()) {
        let (what, name) = text.split_once('=').unwrap_or((text, ""));
        let place = match what {
            "stream" => &mut names.stream,
            "group" => &mut names.group,
            "consumer" => &mut names.consumer,
            "id" => &mut names.id,
            "deliveries" => &mut names.deliveries,
            "error" => &mut names.error,
            _ => return Err(wrong_field(text)),
        };
        if name.is_empty() {
            return Err(wrong_field(text));
        }
        *place = Some(bytes(name));
    }
    Ok(names)
}

fn wrong_field(text: &str) -> UsageError {
    UsageError(format!(
        "--letter-field: found {:?}, expected WHAT=NAME, where WHAT is stream, group, consumer, id, deliveries or error",
        redis_stream_core::secret::redact(text)
    ))
}

fn selection(args: &cli::DeadLettersArgs) -> Result<LetterSelection, UsageError> {
    let id = |text: &String| {
        let id = text.parse::<StreamId>();
        id.map_err(|error| {
            UsageError(format!("--id: {:?} is {error}", redis_stream_core::secret::redact(text)))
        })
    };
    let is_listed = matches!(args.action, DeadLettersAction::List | DeadLettersAction::Show);
    Ok(LetterSelection {
        ids: args.id.iter().filter(|text| !text.is_empty()).map(id).collect::<Result<_, _>>()?,
        group: given(args.group.as_ref()),
        older_than: args.older_than,
        newer_than: args.newer_than,
        limit: args.limit.or(is_listed.then_some(SHOWN)),
    })
}

async fn print(
    args: &cli::DeadLettersArgs,
    dead_letters: &mut DeadLetters,
    selection: LetterSelection,
) -> anyhow::Result<()> {
    let mut cursor = dead_letters.select(selection).await.map_err(redis_args::classify)?;
    let mut listed = Vec::new();
    loop {
        let page = dead_letters.next(&mut cursor).await.map_err(redis_args::classify)?;
        if page.is_empty() {
            break;
        }
        listed.extend(page.iter().map(|letter| self::listed(args.action, dead_letters, letter)));
    }
    let key = escape(dead_letters.key());
    let missing: Vec<_> = cursor.missing().iter().map(ToString::to_string).collect();
    let mut out = output::stdout();
    if args.json {
        let printed = json!({
            "dead_letter_stream": key,
            "letters": listed,
            "may_be_more": cursor.is_cut(),
            "missing": missing,
        });
        api::json::write(&printed, &mut out)?;
        return Ok(out.write_all(b"\n")?);
    }
    write(args.action, &listed, &mut out)?;
    for id in missing {
        writeln!(out, "there is no letter {id} in {}", printable(&key))?;
    }
    if args.id.is_empty() {
        writeln!(out, "{}", shown(&listed, &key, cursor.is_cut()))?;
    }
    Ok(())
}

fn listed(action: DeadLettersAction, dead_letters: &DeadLetters, letter: &Letter) -> ListedLetter {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|bytes| escape(bytes).into_owned());
    let field = |(name, value): &(Vec<u8>, Vec<u8>)| ListedField::new(name, value);
    ListedLetter {
        id: letter.id.to_string(),
        age_seconds: dead_letters.age(letter.id).map(|age| age.as_secs_f64()),
        stream: text(&letter.stream),
        group: text(&letter.group),
        consumer: text(&letter.consumer),
        entry_id: text(&letter.entry_id),
        deliveries: text(&letter.deliveries),
        error: text(&letter.error),
        replays: letter.replays,
        first_id: text(&letter.first_id),
        fields: (action == DeadLettersAction::Show).then(|| letter.fields.iter().map(field).collect()),
    }
}

fn write(action: DeadLettersAction, listed: &[ListedLetter], out: &mut dyn Write) -> io::Result<()> {
    if listed.is_empty() {
        return Ok(());
    }
    if action == DeadLettersAction::List {
        for line in letters::table(listed, terminal_width()) {
            writeln!(out, "{line}")?;
        }
        return writeln!(out);
    }
    for letter in listed {
        for line in letters::details(letter) {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn shown(listed: &[ListedLetter], key: &str, is_cut: bool) -> String {
    let more = if is_cut { "; there may be more: see --limit" } else { "" };
    let key = printable(key);
    match listed.len() {
        0 => format!("no dead letters in {key}"),
        number => format!("{} of {key} shown{more}", letters_are(number as u64)),
    }
}

fn letters_are(number: u64) -> String {
    if number == 1 { "1 dead letter".to_owned() } else { format!("{} dead letters", count(number)) }
}

async fn change(
    args: &cli::DeadLettersArgs,
    dead_letters: &mut DeadLetters,
    selection: LetterSelection,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let execution = if args.execute { Execution::Execute } else { Execution::DryRun };
    let mut outcome = Outcome::default();
    let ended = match args.action {
        DeadLettersAction::Replay => {
            let options = ReplayOptions { execution, to: given(args.to.as_ref()), rate: args.rate };
            dead_letters.replay(selection, &options, shutdown, &mut outcome).await
        }
        _ => dead_letters.drop_selected(selection, execution, shutdown, &mut outcome).await,
    };
    let mut out = output::stdout();
    if args.json {
        api::json::write(&outcome_json(args, dead_letters.key(), &outcome), &mut out)?;
        out.write_all(b"\n")?;
    } else {
        write!(out, "{}", summary(args, dead_letters.key(), &outcome))?;
    }
    ended.map_err(redis_args::classify)?;
    let kept: u64 = outcome.kept.values().sum();
    if kept > 0 && args.execute {
        anyhow::bail!("{} not replayed", letters_are(kept));
    }
    Ok(())
}

fn outcome_json(args: &cli::DeadLettersArgs, key: &[u8], outcome: &Outcome) -> Value {
    let Outcome { done, gone, unknown, kept, streams, unchecked: _ } = outcome;
    let streams =
        streams.iter().map(|(stream, entries)| (escape(stream).into_owned(), Value::from(*entries)));
    json!({
        "dead_letter_stream": escape(key),
        "dry_run": !args.execute,
        "letters": done,
        "gone": gone,
        "unknown": unknown,
        "kept": kept,
        "streams": streams.collect::<serde_json::Map<_, _>>(),
    })
}

fn summary(args: &cli::DeadLettersArgs, key: &[u8], outcome: &Outcome) -> String {
    let Outcome { done, gone, unknown, kept, streams, unchecked } = outcome;
    let verb = match (args.action, args.execute) {
        (DeadLettersAction::Replay, true) => "replayed",
        (DeadLettersAction::Replay, false) => "would replay",
        (_, true) => "dropped",
        (_, false) => "would drop",
    };
    let name = |bytes: &[u8]| printable(&escape(bytes)).into_owned();
    let mut text = format!("{verb} {} of {}\n", letters_are(*done), name(key));
    for (stream, entries) in streams {
        let exists = match args.execute {
            true => "",
            false if unchecked.contains(stream) => ", if it exists: the server refuses TYPE",
            false => ", which exists",
        };
        let _ = writeln!(text, "  to {}{exists}: {}", name(stream), count(*entries));
    }
    if *gone > 0 {
        let _ = writeln!(text, "{} gone already", letters_are(*gone));
    }
    for (reason, letters) in kept {
        let _ = writeln!(text, "{} kept: {}", letters_are(*letters), printable(reason));
    }
    if *unknown > 0 {
        let letters = letters_are(*unknown);
        let _ = writeln!(
            text,
            "{letters} with unknown result, since the reply was lost: run the command again, no letter is replayed twice"
        );
    }
    if !args.execute {
        text.push_str("nothing was changed; add --execute to do it\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> cli::DeadLettersArgs {
        let words = ["streamgauge", "dead-letters"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::DeadLetters(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_flag_is_named() {
        for (line, said) in [
            ("list --stream s --execute", "--execute is for replay and drop only"),
            ("drop --stream s --to t", "--to is for replay only"),
            ("show --stream s --rate 5", "--rate is for replay only"),
        ] {
            assert_eq!(check_flags(&args(line)).unwrap_err().to_string(), said);
        }
        for line in [
            "replay --stream s --to t --rate 5 --execute",
            "drop --dead-letter s --execute",
            "list --stream s",
        ] {
            assert!(check_flags(&args(line)).is_ok(), "{line}");
        }
        assert_eq!(
            selection(&args("show --stream s --id 7")).unwrap_err().to_string(),
            "--id: \"7\" is not a stream ID; expected two numbers such as 1700000000000-0"
        );
    }

    #[test]
    fn fields_of_other_programs_are_named_by_what_they_hold() {
        let names = field_names(&["stream=from=here".to_owned(), "error=a\\xff".to_owned()]).unwrap();
        let expected = FieldNames {
            stream: Some(b"from=here".to_vec()),
            error: Some(b"a\xff".to_vec()),
            ..FieldNames::default()
        };
        assert_eq!(names, expected);
        for wrong in ["stream", "stream=", "topic=a", "=a"] {
            assert_eq!(
                field_names(&[wrong.to_owned()]).unwrap_err().to_string(),
                format!(
                    "--letter-field: found {wrong:?}, expected WHAT=NAME, where WHAT is stream, group, consumer, id, \
                     deliveries or error"
                )
            );
        }
    }

    #[test]
    fn an_outcome_says_what_was_done_and_what_was_not() {
        let outcome = Outcome {
            done: 1_200,
            gone: 1,
            unknown: 25,
            kept: [("there is no stream a\nb".to_owned(), 2)].into(),
            streams: [(b"orders".to_vec(), 1_199), (b"\xff".to_vec(), 1)].into(),
            unchecked: [b"\xff".to_vec()].into(),
        };
        insta::assert_snapshot!(summary(&args("replay --stream orders --execute"), b"orders:dead", &outcome), @r"
        replayed 1,200 dead letters of orders:dead
          to orders: 1,199
          to \xff: 1
        1 dead letter gone already
        2 dead letters kept: there is no stream a\x0ab
        25 dead letters with unknown result, since the reply was lost: run the command again, no letter is replayed twice
        ");
        let dry = Outcome { gone: 0, unknown: 0, ..outcome.clone() };
        insta::assert_snapshot!(summary(&args("replay --stream orders"), b"orders:dead", &dry), @r"
        would replay 1,200 dead letters of orders:dead
          to orders, which exists: 1,199
          to \xff, if it exists: the server refuses TYPE: 1
        2 dead letters kept: there is no stream a\x0ab
        nothing was changed; add --execute to do it
        ");
        let none = Outcome { done: 1, ..Outcome::default() };
        insta::assert_snapshot!(summary(&args("drop --stream orders"), b"orders:dead", &none), @r"
        would drop 1 dead letter of orders:dead
        nothing was changed; add --execute to do it
        ");
        insta::assert_snapshot!(outcome_json(&args("replay --stream o"), b"o:dead", &outcome).to_string(), @r#"{"dead_letter_stream":"o:dead","dry_run":true,"gone":1,"kept":{"there is no stream a\nb":2},"letters":1200,"streams":{"\\xff":1,"orders":1199},"unknown":25}"#);
    }
}
