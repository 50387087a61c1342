//! Checks the documents against the code: listed names exist and are complete, printed commands and configurations
//! work.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use redis::Value;
use redis_stream_lag::report::Status;
use regex::Regex;
use streamgauge::alert::fact::{FACTS, SubjectKind};
use streamgauge::alert::recommended;
use streamgauge::alert::rule::label_names;
use streamgauge::cli::Cli;
use streamgauge::config::load;
use streamgauge::exposition::alerts;
use streamgauge::values::family::{Aggregation, AlertFact, Family, MetricKind, MetricOrigin, ValueUnit};
use streamgauge::values::table::FAMILIES;

use support::config::serving;
use support::metric_list::{self, metric_of, own_metrics};
use support::metrics::{self, Metrics};
use support::program::Streamgauge;
use support::repository::{files, read, root, user_documents};
use support::server::Server;
use support::servers::{Program, ServerKind, for_each_server};
use support::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(15);

/// All documents for users, in one text.
static TEXT: LazyLock<String> =
    LazyLock::new(|| user_documents().into_iter().map(|(_, text)| text + "\n").collect());

/// Returns the rows of each table whose first header is `first`, the header among them.
fn tables(first: &str) -> Vec<Vec<Vec<&'static str>>> {
    let is_row = |line: &&str| line.starts_with('|');
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let lines: Vec<_> = TEXT.lines().collect();
    let tables = lines.chunk_by(|a, b| is_row(a) == is_row(b)).filter(|lines| is_row(&lines[0]));
    let tables: Vec<Vec<_>> = tables
        .map(|lines| lines.iter().filter(|line| !line.contains("---")).map(|line| cells(line)).collect())
        .filter(|table: &Vec<Vec<&str>>| table[0][0] == first)
        .collect();
    assert!(!tables.is_empty(), "no table begins with {first:?}");
    tables
}

/// Returns the rows of the one table whose first header is `first`, without the header.
fn rows(first: &str) -> Vec<Vec<&'static str>> {
    let mut tables = tables(first);
    assert_eq!(tables.len(), 1, "one table begins with {first:?}");
    tables.remove(0).split_off(1)
}

/// Returns the fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    TEXT.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Returns the pieces between backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Returns the type of each metric in Prometheus text.
fn types(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
}

/// Splits a sample into the series' name and labels.
fn series(line: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (name, rest) = line.split_once('{')?;
    let labels = rest.rsplit_once('}')?.0;
    Some((name, labels.split(',').map(|label| label.split_once('=').unwrap()).collect()))
}

/// Returns the label names of a metric, sorted.
fn labels(text: &str, metric: &str, kind: &str) -> Vec<String> {
    let is_of = |name: &str| match kind {
        "histogram" => name.strip_suffix("_count") == Some(metric),
        _ => name == metric,
    };
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(series);
    let found = lines.find(|(name, _)| is_of(name));
    let mut labels: Vec<_> =
        found.iter().flat_map(|(_, labels)| labels).map(|label| label.0.into()).collect();
    labels.sort_unstable();
    labels
}

/// Returns the documented type and labels of each metric in the tables that are not generated.
fn documented() -> BTreeMap<&'static str, (&'static str, Vec<String>)> {
    let mut documented = BTreeMap::new();
    let written = tables("metric").into_iter().filter(|table| table[0][1] == "type");
    for row in written.flat_map(|table| table.into_iter().skip(1)) {
        assert_eq!(row.len(), 5, "{row:?}");
        let labels = row[2].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let name = code(row[0])[0];
        assert!(documented.insert(name, (row[1], labels)).is_none(), "{name} is there twice");
    }
    documented
}

#[test]
fn the_tables_of_other_metrics_are_complete() {
    let own = own_metrics();
    let mut documented = documented();
    let labels_of_alerts = alerts::LABELS.iter().map(|label| (*label).to_owned()).collect();
    assert_eq!(documented.remove(alerts::NAME), Some(("gauge", labels_of_alerts)));
    let labels_of_group = label_names(SubjectKind::Group).iter().map(|label| (*label).to_owned()).collect();
    assert_eq!(documented.remove(alerts::GROUP_GONE), Some(("gauge", labels_of_group)));
    for (name, kind) in types(&own) {
        let (documented_kind, mut documented_labels) =
            documented.remove(name).unwrap_or_else(|| panic!("{name} is not documented"));
        documented_labels.sort_unstable();
        assert_eq!((documented_kind, documented_labels), (kind, labels(&own, name, kind)), "{name}");
    }
    if !cfg!(target_os = "linux") {
        documented.retain(|name, _| !name.starts_with("process_"));
    }
    assert!(documented.is_empty(), "these do not exist: {:?}", documented.keys());
}

/// A metric without series would escape the test above.
#[test]
fn every_own_metric_has_series_in_these_tests() {
    let own = own_metrics();
    let (source, _) = include_str!("../src/self_metrics/mod.rs").split_once("mod tests").unwrap();
    let consumer = include_str!("../crates/redis-stream-consumer/src/consume/metrics.rs");
    let sources = [source, consumer].concat();
    let names: BTreeSet<_> =
        sources.split('"').skip(1).step_by(2).filter(|text| text.starts_with("streamgauge_")).collect();
    let seen: BTreeSet<_> = types(&own).into_keys().filter(|name| name.starts_with("streamgauge_")).collect();
    assert_eq!(seen, names);
}

#[test]
fn every_metric_alert_and_variable_that_is_named_exists() {
    let cli = Cli::command();
    let arguments = cli.get_subcommands().chain([&cli]).flat_map(clap::Command::get_arguments);
    let variables: BTreeSet<_> =
        arguments.filter_map(|argument| Some(argument.get_env()?.to_str().unwrap().to_owned())).collect();
    let known = metric_list::series();
    let metrics: BTreeSet<_> = known.keys().flat_map(|name| [name.as_str(), metric_of(name)]).collect();
    let alerts: BTreeSet<_> = recommended::names().collect();
    let word = Regex::new(r"[A-Za-z_]\w*").unwrap();
    let mut seen = 0;
    for (path, text) in files("deploy").into_iter().chain(user_documents()) {
        for found in word.find_iter(&text).map(|found| found.as_str()) {
            let is_alert = found.starts_with("RedisStream")
                || found == "StreamgaugeGone"
                || found == "StreamgaugeLimited"
                || found == "StreamgaugeDataOld";
            let is_crate =
                ["redis_stream_core", "redis_stream_lag", "redis_stream_consumer"].contains(&found);
            let is_metric =
                ["redis_stream_", "streamgauge_", "process_"].iter().any(|start| found.starts_with(start))
                    && !is_crate;
            let is_variable = found.starts_with("STREAMGAUGE_") && found != "STREAMGAUGE_";
            // The middle of the name of a recording rule.
            let is_recorded = found == "redis_stream_group_entries_lost";
            assert!(!is_alert || alerts.contains(found), "{path}: there is no alert {found}");
            assert!(
                !is_metric || is_recorded || metrics.contains(found),
                "{path}: there is no metric {found}"
            );
            assert!(!is_variable || variables.contains(found), "{path}: there is no variable {found}");
            seen += usize::from(is_alert || is_metric || is_variable);
        }
    }
    assert!(seen > 50);
}

#[test]
fn the_table_of_recommended_rules_is_complete() {
    let rows = rows("alert");
    assert_eq!(
        rows.iter().map(|row| code(row[0])[0]).collect::<Vec<_>>(),
        recommended::names().collect::<Vec<_>>()
    );
    let foreign = recommended::prometheus_only(&[], None);
    let times = recommended::rules(None, &recommended::default_dead_letters())
        .into_iter()
        .map(|rule| rule.pending_for);
    let times = times.chain(foreign.iter().map(|rule| rule.pending_for));
    let minutes: Vec<_> = times.map(|time| format!("{}m", time.as_secs() / 60)).collect();
    assert_eq!(rows.iter().map(|row| row[2]).collect::<Vec<_>>(), minutes);
    let own = recommended::rules(None, &recommended::default_dead_letters());
    let labels = own.iter().map(|rule| &rule.labels).chain(foreign.iter().map(|rule| &rule.labels));
    let severities: Vec<_> = labels.map(|labels| labels["severity"].source().to_owned()).collect();
    assert_eq!(rows.iter().map(|row| row[3]).collect::<Vec<_>>(), severities);
}

/// Returns the type and unit of a value, as the documentation shows them.
fn type_and_unit(family: &Family) -> String {
    let kind = match family.kind {
        MetricKind::Gauge => "gauge",
        MetricKind::Counter => "counter",
    };
    let unit = match family.unit {
        ValueUnit::Count => "",
        ValueUnit::Bytes => ", bytes",
        ValueUnit::Seconds => ", seconds",
        ValueUnit::Timestamp => ", Unix time",
        ValueUnit::Ratio => ", 0 to 1",
        ValueUnit::PerSecond => ", per second",
        ValueUnit::Bool => ", 0 or 1",
    };
    format!("{kind}{unit}")
}

/// Returns the name of a fold in the documentation.
fn fold(aggregation: Aggregation) -> &'static str {
    match aggregation {
        Aggregation::Sum => "sum",
        Aggregation::SumOfKnown => "sum of known",
        Aggregation::Counter => "counter",
        Aggregation::Min => "min",
        Aggregation::Max => "max",
        Aggregation::SmallestKnown => "smallest known",
        Aggregation::LargestKnown => "largest known",
        Aggregation::Any => "any",
        Aggregation::LeftOut => "none",
        Aggregation::OfFamily => "only here",
    }
}

fn subject(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Target => "target",
        SubjectKind::Stream => "stream",
        SubjectKind::Group => "group",
    }
}

/// Returns a table of metrics, from the table of values.
fn metric_table(origin: MetricOrigin) -> String {
    let mut text = "| metric | type, unit | labels | meaning | absent | family |
| --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    for family in FAMILIES.iter().filter(|family| family.origin == origin) {
        let Family { name, help, notes, absent, aggregation, .. } = family;
        let meaning = format!("{help} {notes}");
        let meaning = meaning.trim_end().trim_end_matches('.');
        let absent = if absent.is_empty() { " ".to_owned() } else { format!(" {absent} ") };
        let (kind, labels, fold) = (type_and_unit(family), family.labels().join(", "), fold(*aggregation));
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {meaning} |{absent}| {fold} |");
    }
    text
}

/// Returns the table of the facts that alert rules can name.
fn fact_table() -> String {
    let mut text = "| fact | subject | metric |\n| --- | --- | --- |\n".to_owned();
    for fact in FACTS.iter() {
        let family = FAMILIES.iter().find(|family| family.fact.is_some_and(|of| of.name() == fact.name));
        let (name, metric) = (fact.name, family.map_or("streamgauge_target_up", |family| family.name));
        let source = match family.and_then(|family| family.fact) {
            Some(AlertFact::Value(_)) | None => format!("`{metric}`"),
            Some(AlertFact::Bounds { min, max, .. }) => {
                format!("`{}` for `>` and `>=`, `{}` for `<` and `<=`: the certain bound", min.name, max.name)
            }
            Some(AlertFact::Increase(_)) => {
                format!("`{name} > 0` and no other comparison: a rise of `{metric}` in the last 5 minutes")
            }
            Some(AlertFact::Since(_)) => format!("the time since `{metric}`"),
            Some(AlertFact::Status(_)) => format!(
                "`{metric}`, as in `{name} == stalled` (the condition holds, whatever else does) or \
                 `{name} != stalled`; a condition that does not hold is not known while there is too little history"
            ),
        };
        let _ = writeln!(text, "| `{name}` | {} | {source} |", subject(fact.subject()));
    }
    text
}

/// The tables of values and facts are generated: `make doc-tables` writes them.
#[test]
fn the_values_are_documented_as_their_table_states() {
    let mut text = read("docs/metrics.md");
    put_table(&mut text, "values", &metric_table(MetricOrigin::Own));
    put_table(&mut text, "values for redis_exporter", &metric_table(MetricOrigin::RedisExporter));
    assert_written("docs/metrics.md", &text);
    let folds: BTreeSet<_> = FAMILIES.iter().map(|family| fold(family.aggregation)).collect();
    assert_eq!(rows("last column").iter().map(|row| row[0]).collect::<BTreeSet<_>>(), folds);
    let mut text = read("docs/alerting.md");
    put_table(&mut text, "facts", &fact_table());
    assert_written("docs/alerting.md", &text);
}

/// Returns all values of a label in Prometheus text.
fn values_of(label: &str, text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(series);
    let labels = lines.flat_map(|(_, labels)| labels).filter(|(name, _)| *name == label);
    labels.map(|(_, value)| value.trim_matches('"').to_owned()).collect()
}

#[tokio::test]
async fn closed_lists_are_documented_with_all_their_values() {
    // No server listens there, so only the exporter's own metrics are exposed.
    let exporter = serving(
        "targets: [{url: 'redis://127.0.0.1:1'}]
alerts: {notifiers: [{name: n, webhook: {url: 'http://127.0.0.1:1'}}]}",
    )
    .await;
    let text = exporter.get("/metrics").await.text();
    for row in rows("label") {
        let label = code(row[0])[0];
        let values: BTreeSet<_> = code(row[1]).into_iter().map(str::to_owned).collect();
        assert_eq!(values, values_of(label, &text), "{label}");
    }
    let routes: BTreeSet<_> = rows("route").iter().map(|row| code(row[0])[0]).collect();
    let counted = values_of("route", &text);
    assert_eq!(routes, counted.iter().map(String::as_str).filter(|route| *route != "other").collect());
}

/// Flags of many commands, which docs/cli.md lists once.
const SHARED_FLAGS: [&str; 2] = ["redis_", "log_"];

fn is_shared(id: &str) -> bool {
    SHARED_FLAGS.iter().any(|start| id.starts_with(start)) && id != "redis_server"
}

/// Returns a table of flags, from the help of the command line.
fn flag_table<'a>(arguments: impl Iterator<Item = &'a clap::Arg>) -> String {
    let mut text = "| flag | default | meaning |\n| --- | --- | --- |\n".to_owned();
    for argument in arguments.filter(|argument| !argument.is_positional()) {
        let help = argument.get_help().expect("each has a help text").to_string().replace('|', "\\|");
        let (help, stated) = match help.rsplit_once(" [default: ") {
            Some((help, default)) => (help.to_owned(), default.trim_end_matches('.').strip_suffix(']')),
            None => (help.clone(), None),
        };
        let defaults = argument.get_default_values().iter().map(|value| format!("`{}`", value.display()));
        let is_switch = !argument.get_action().takes_values();
        let default = match stated {
            Some(stated) => stated.to_owned(),
            None if is_switch => String::new(),
            None => defaults.collect(),
        };
        let name = match argument.get_value_names() {
            Some([name]) if !is_switch => format!("--{} {name}", argument.get_long().unwrap()),
            _ => format!("--{}", argument.get_long().unwrap()),
        };
        let values = argument.get_possible_values();
        let values: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
        let values =
            if values.is_empty() || is_switch { String::new() } else { format!(": {}", values.join(", ")) };
        let default = if default.is_empty() { " ".to_owned() } else { format!(" {default} ") };
        let _ = writeln!(text, "| `{name}` |{default}| {}{values} |", help.trim_end_matches('.'));
    }
    text
}

/// The tables of docs/cli.md are generated: `make doc-tables` writes them.
#[test]
fn the_command_line_is_documented_command_by_command() {
    let mut cli = Cli::command();
    cli.build();
    let is_flag = |argument: &&clap::Arg| !["help", "version"].contains(&argument.get_id().as_str());
    let commands = || cli.get_subcommands().filter(|command| command.get_name() != "help");
    let arguments = |command: &'static str| {
        let found = commands().find(move |known| known.get_name() == command).unwrap();
        found.get_arguments().filter(is_flag).cloned().collect::<Vec<_>>()
    };
    // `serve` has them all.
    let shared = arguments("serve");
    let shared = flag_table(shared.iter().filter(|argument| is_shared(argument.get_id().as_str())));
    let mut text = read("docs/cli.md");
    put_table(&mut text, "flags of all commands", &shared);
    for command in commands() {
        let name = command.get_name();
        assert!(text.contains(&format!("\n## {name}\n")), "docs/cli.md has no section {name}");
        let own = command.get_arguments().filter(is_flag);
        let own: Vec<_> = own.filter(|argument| !is_shared(argument.get_id().as_str())).collect();
        if own.iter().any(|argument| !argument.is_positional()) {
            put_table(&mut text, &format!("flags of {name}"), &flag_table(own.into_iter()));
        }
    }
    assert_written("docs/cli.md", &text);
}

/// Compares a document with its text with all tables, and writes it first where `make doc-tables` asks for that.
fn assert_written(path: &str, text: &str) {
    if env::var_os("STREAMGAUGE_WRITE_DOCS").is_some() {
        fs::write(root().join(path), text).unwrap();
    }
    assert!(read(path) == text, "{path} differs from the code: run make doc-tables");
}

/// Puts a table between the two marks for it.
fn put_table(text: &mut String, subject: &str, table: &str) {
    let start = format!("<!-- {subject}: written by make doc-tables -->\n");
    let at = text.find(&start).unwrap_or_else(|| panic!("the document lacks {start}")) + start.len();
    let end = at + text[at..].find("<!-- end -->").expect("the mark behind it");
    text.replace_range(at..end, &format!("\n{table}\n"));
}

#[test]
fn the_table_of_statuses_is_complete_and_in_order() {
    let listed: Vec<_> = rows("status").iter().map(|row| code(row[0])[0]).collect();
    assert_eq!(listed, Status::ALL.map(Status::as_str));
}

#[test]
fn every_printed_command_parses() {
    let lines = blocks("console").into_iter().flat_map(str::lines);
    let commands: Vec<_> = lines.filter_map(|line| line.strip_prefix("$ streamgauge ")).collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        let arguments = command.split(['|', '>']).next().unwrap().split_whitespace();
        if let Err(error) = Cli::try_parse_from(["streamgauge"].into_iter().chain(arguments)) {
            panic!("streamgauge {command}: {error}");
        }
    }
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = include_str!("../Makefile");
    let printed =
        blocks("console").into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    // The fences of blocks would count as backticks.
    let contributing = read("CONTRIBUTING.md");
    let prose: String =
        [TEXT.as_str(), &contributing].iter().flat_map(|text| text.split("```").step_by(2)).collect();
    let mut named = 0;
    for text in printed.chain(code(&prose)) {
        let Some(target) = text.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next()) else {
            continue;
        };
        assert!(makefile.contains(&format!("\n{target}: ## ")), "make {target} does not exist");
        named += 1;
    }
    assert!(named > 3);
    for file in
        blocks("console").into_iter().flat_map(str::lines).filter_map(|line| line.split(" -f ").nth(1))
    {
        assert!(root().join(file.trim()).exists(), "{file}");
    }
}

/// Returns the anchors of all headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| heading.to_lowercase().replace(' ', "-").replace([',', '.', ':', '`'], ""))
        .collect()
}

#[test]
fn links_to_files_and_sections_have_a_target() {
    let others = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "deploy/helm/streamgauge/README.md",
        "examples/README.md",
        "llms.txt",
    ];
    let others = others.map(|path| (path.to_owned(), read(path)));
    for (path, text) in user_documents().into_iter().chain(others) {
        let folder = root().join(&path).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            assert!(target.exists(), "{path}: {link}");
            let has_section = || anchors(&fs::read_to_string(&target).unwrap()).contains(section);
            assert!(section.is_empty() || has_section(), "{path}: {link}");
        }
    }
}

#[test]
fn every_page_and_example_is_in_its_list() {
    let (list, summary, readme) = (read("llms.txt"), read("docs/SUMMARY.md"), read("README.md"));
    let is_page = |path: &str| path.ends_with(".md") && !path.ends_with("/SUMMARY.md");
    for (path, _) in files("docs").iter().filter(|(path, _)| is_page(path)) {
        assert!(list.contains(&format!("]({path})")), "llms.txt: {path} is missing");
        assert!(readme.contains(&format!("]({path})")), "README.md: {path} is missing");
        let entry = format!("]({})\n", path.strip_prefix("docs/").unwrap());
        assert_eq!(summary.matches(&entry).count(), 1, "docs/SUMMARY.md: one entry for {path}");
    }
    let list = read("examples/README.md");
    for (path, _) in files("examples").iter().filter(|(path, _)| !path.ends_with("README.md")) {
        let name = path.strip_prefix("examples/").unwrap();
        assert!(list.contains(&format!("]({name})")), "examples/README.md: {name} is missing");
    }
}

#[test]
fn files_and_functions_that_contributors_read_of_exist() {
    let [architecture, contributing] = ["ARCHITECTURE.md", "CONTRIBUTING.md"].map(read);
    let code: String = files("src").into_iter().chain(files("crates")).map(|(_, text)| text).collect();
    let function = Regex::new(r"\b([A-Z]\w+)::([a-z_]+)\b").unwrap();
    for name in function.captures_iter(&architecture) {
        let found =
            code.contains(&format!(" struct {}", &name[1])) && code.contains(&format!("fn {}(", &name[2]));
        assert!(found, "ARCHITECTURE.md: there is no {}", &name[0]);
    }
    let path =
        Regex::new(r"`((?:src|crates|tests|dashboards|scripts|docs|\.ci)/[^` ]*|[\w.]+\.(?:md|yaml))`")
            .unwrap();
    for found in path.captures_iter(&(architecture + &contributing)) {
        assert!(root().join(&found[1]).exists(), "there is no {}", &found[1]);
    }
    let example = contributing.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(read("tests/support_self_test.rs").contains(example), "the example is a test");
}

#[test]
fn the_runbook_has_a_section_for_each_recommended_alert_and_no_other() {
    let text = read("docs/operating.md");
    let sections: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, recommended::names().collect::<Vec<_>>());
    let steps = text.split("\n## ").skip(1).all(|section| section.contains("\n1. "));
    assert!(steps, "each says what to do first");
}

#[test]
fn yaml_blocks_load() {
    let environment = |name: &str| match name {
        "REDIS_PASSWORD" => Some("secret".to_owned()),
        "PAGERDUTY_KEY" => Some("secret".to_owned()),
        "SLACK_URL" => Some("https://hooks.slack.com/services/x".to_owned()),
        _ => None,
    };
    let (mut scrapes, mut configurations) = (0, 0);
    for block in blocks("yaml") {
        if block.contains("scrape_configs:") {
            let value: serde_yaml::Value = serde_yaml::from_str(block).unwrap();
            assert_eq!(value["scrape_configs"][0]["honor_labels"], true, "{block}");
            scrapes += 1;
        } else {
            let loaded = load::from_text("documents", block, Path::new(""), &environment);
            loaded.unwrap_or_else(|error| panic!("{error}\n{block}"));
            configurations += 1;
        }
    }
    assert!(scrapes == 2 && configurations > 0);
}

#[test]
fn the_configuration_keys_that_are_listed_exist_with_their_defaults() {
    let lines = include_str!("../config.reference.yaml").lines();
    let settings = lines.filter_map(|line| line.trim_start_matches([' ', '#', '-']).split_once(':'));
    let settings: Vec<_> = settings.map(|(key, value)| (key, value.trim().trim_matches('"'))).collect();
    for row in rows("key") {
        let path = code(row[0])[0].replace("[]", "");
        let (section, key) = path.rsplit_once('.').unwrap();
        assert!(settings.contains(&(section, "")), "{section} does not exist");
        assert!(settings.iter().any(|(name, _)| *name == key), "{path} does not exist");
        for value in code(row[1]) {
            assert!(settings.contains(&(key, value)), "{path}: {value}");
        }
    }
}

/// Returns the documented ACL SETUSER for this server, with the password "secret".
fn acl_line(program: &Program) -> Vec<String> {
    let heading = match (program.kind, program.version) {
        (ServerKind::Redis, (6, ..)) => "# Redis 6.2",
        (ServerKind::Redis, (7, 0 | 1, _)) => "# Redis 7.0",
        _ => "# Redis 7.2 and later, Valkey",
    };
    let lines: Vec<_> = blocks("text").into_iter().flat_map(str::lines).collect();
    let at = lines.iter().position(|line| line.split(", which").next() == Some(heading)).expect(heading);
    let line = lines[at + 1];
    assert!(line.starts_with("ACL SETUSER streamgauge on >PASSWORD "), "{line}");
    line.replace("PASSWORD", "secret").split_whitespace().map(str::to_owned).collect()
}

/// Fills a stream that needs every question: counting, pending entries that were trimmed, and a consumer.
async fn fill(server: &Server) {
    for n in 1..=10 {
        server.command::<String>(&["XADD", "s", &format!("{n}-0"), "f", "v"]).await;
    }
    server.command::<()>(&["XGROUP", "CREATE", "s", "g", "0"]).await;
    server.command::<()>(&["XREADGROUP", "GROUP", "g", "c", "COUNT", "5", "STREAMS", "s", ">"]).await;
    server.command::<()>(&["XTRIM", "s", "MAXLEN", "8"]).await;
}

#[tokio::test]
async fn the_printed_acl_is_enough_and_no_command_is_denied() {
    for_each_server(async |server| {
        server.command::<()>(&acl_line(server.program())).await;
        fill(&server).await;
        server.command::<()>(&["ACL", "LOG", "RESET"]).await;
        server.command::<()>(&["CONFIG", "RESETSTAT"]).await;
        let base = format!("redis://streamgauge:secret@{}", server.address());
        let exporter =
            Streamgauge::serve().args(["--redis-url", &base, "--interval", "200ms"]).serving().await;
        wait_until(SOON, "two polls are over", async || {
            let all = exporter.metrics().await;
            metrics::named(&all, "streamgauge_polls_total").values().sum::<f64>() >= 2.0
        })
        .await;
        let all = exporter.metrics().await;
        assert_eq!(sum(&all, "redis_stream_group_lag"), 5.0);
        assert_eq!(sum(&all, "redis_stream_group_pending_orphaned"), 2.0);
        assert_eq!(sum(&all, "redis_stream_group_consumer_messages_pending"), 5.0);
        assert_eq!(sum(&all, "streamgauge_poll_errors_total"), 0.0);
        let knows_no_touch = server.program().version >= (7, 2, 0);
        for (series, sent) in metrics::named(&all, "streamgauge_redis_commands_total") {
            if series.contains("\"client_no_touch\"") {
                assert_eq!(sent > 0.0, knows_no_touch, "{series} is {sent}");
            } else {
                // Commands for other databases, sentinels, clusters and memory have their own tests.
                let others = ["select", "sentinel", "cluster", "asking", "memory_usage"];
                let is_other = others.iter().any(|name| series.contains(&format!("\"{name}\"")));
                assert!(sent > 0.0 || is_other, "{series} is 0");
            }
        }
        exporter.stop().await;

        server.command::<()>(&["ACL", "SETUSER", "streamgauge", "+select"]).await;
        let check = Streamgauge::command("check").args(["--redis-url", &format!("{base}/3")]).run().await;
        assert_eq!(check.code, Some(0), "{}", check.stdout);

        let denied: Vec<Value> = server.command(&["ACL", "LOG"]).await;
        assert!(denied.is_empty(), "{denied:?}");
        let statistics: String = server.command(&["INFO", "commandstats"]).await;
        let rejected =
            statistics.lines().filter(|line| !line.contains("rejected_calls=0") && line.contains('='));
        assert_eq!(rejected.collect::<Vec<_>>(), Vec::<&str>::new());
    })
    .await;
}

fn sum(all: &Metrics, name: &str) -> f64 {
    let found = metrics::named(all, name);
    assert!(!found.is_empty(), "{name} is absent");
    found.values().sum()
}

/// Performs the steps of a row of the table of lags on the stream `key`.
async fn act(server: &Server, key: &str, what: &str) {
    for n in 1..=10 {
        server.command::<String>(&["XADD", key, &format!("{n}-0"), "f", "v"]).await;
    }
    let start = if what.starts_with("created at `$`") { "$" } else { "0" };
    server.command::<()>(&["XGROUP", "CREATE", key, "g", start]).await;
    let read = async |count: &str| {
        let read = ["XREADGROUP", "GROUP", "g", "c", "COUNT", count, "STREAMS", key, ">"];
        server.command::<Value>(&read).await;
    };
    let trim = async || server.command::<i64>(&["XTRIM", key, "MAXLEN", "3"]).await;
    match what {
        "4 read" => read("4").await,
        "4 read, `XDEL` of entry 7" => {
            read("4").await;
            server.command::<i64>(&["XDEL", key, "7-0"]).await;
        }
        "created at `$` instead, then 2 added" => {
            server.command::<String>(&["XADD", key, "11-0", "f", "v"]).await;
            server.command::<String>(&["XADD", key, "12-0", "f", "v"]).await;
        }
        "2 read, `XTRIM` to 3 entries" => {
            read("2").await;
            trim().await;
        }
        "and then the 3 read" => {
            read("2").await;
            trim().await;
            read("3").await;
        }
        other => panic!("unknown row: {other}"),
    }
}

/// Returns the server's own lag, as the table shows it.
async fn lag_by_the_server(server: &Server, key: &str) -> String {
    let mut groups: Vec<HashMap<String, Value>> = server.command(&["XINFO", "GROUPS", key]).await;
    match groups.remove(0).remove("lag") {
        None => "no lag".to_owned(),
        Some(Value::Nil) => "nil".to_owned(),
        Some(lag) => redis::from_redis_value::<i64>(lag).unwrap().to_string(),
    }
}

/// Returns the column of the table for a server; `None` for a version without one.
fn column(header: &[&str], program: &Program) -> Option<usize> {
    let (major, minor, _) = program.version;
    header.iter().position(|cell| {
        let is_kind = match program.kind {
            ServerKind::Redis => cell.starts_with("Redis "),
            ServerKind::Valkey => cell.starts_with("Valkey "),
        };
        is_kind && cell.split([' ', ',']).any(|word| word == format!("{major}.{minor}"))
    })
}

#[tokio::test]
async fn the_table_of_lags_holds_for_servers_and_for_streamgauge() {
    let table = tables("entries 1 to 10, group created at 0").remove(0);
    let (header, rows) = table.split_first().unwrap();
    for_each_server(async |server| {
        for (at, row) in rows.iter().enumerate() {
            let key = format!("s{at}");
            act(&server, &key, row[0]).await;
            let Some(column) = column(header, server.program()) else { continue };
            assert_eq!(lag_by_the_server(&server, &key).await, row[column], "{}", row[0]);
        }
        let exporter = Streamgauge::serve().args(["--redis-url", &server.url()]).serving().await;
        let lags = wait_for(SOON, "all streams are polled", async || {
            let lags = metrics::named(&exporter.metrics().await, "redis_stream_group_lag");
            if lags.len() == rows.len() { Ok(lags) } else { Err(format!("{lags:?}")) }
        });
        // In the order of the keys, as maps and rows are.
        let shown: Vec<_> = lags.await.values().map(f64::to_string).collect();
        for (shown, row) in shown.iter().zip(rows) {
            assert_eq!([shown.as_str(); 2], [row[1], *row.last().unwrap()], "{}", row[0]);
        }
        exporter.stop().await;
    })
    .await;
}
