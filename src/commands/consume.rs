//! `streamgauge consume`: the reference consumer, with standard output as its sink.

use std::fs;
use std::io;
use std::process;

use crate::cli;
use crate::commands::endpoint;
use crate::shutdown::Shutdown;
use crate::workload::consume::{self, Membership};

/// Consumes until it is asked to end, or until nobody reads standard output any more.
///
/// # Errors
///
/// A usage error for settings that cannot be; otherwise what the server or standard output refuses.
pub async fn run(args: cli::Consume, shutdown: Shutdown) -> anyhow::Result<()> {
    let membership = Membership {
        endpoint: endpoint::read(&args.server)?,
        stream: args.stream.into_bytes(),
        group: args.group.into_bytes(),
        consumer: args.consumer.unwrap_or_else(consumer_name).into_bytes(),
        start_id: args.start_id,
        batch: args.batch,
        work_time: args.work_time,
    };
    consume::run(&membership, io::stdout(), shutdown.requested()).await.map_err(endpoint::classify)?;
    Ok(())
}

/// Host name and process id: two consumers of one group never share it by accident.
fn consumer_name() -> String {
    format!("{}-{}", host_name(), process::id())
}

fn host_name() -> String {
    // The first is Linux', and right in a container too.
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_ends_in_the_process_id() {
        let name = consumer_name();
        let (host, pid) = name.rsplit_once('-').unwrap();
        assert!(!host.is_empty() && !host.contains(char::is_whitespace));
        assert_eq!(pid, process::id().to_string());
    }
}
