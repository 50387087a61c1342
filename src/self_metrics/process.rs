//! The metrics of the process, under the names that all Prometheus clients give them. A value that cannot be read is
//! absent.

use std::fs;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

pub(super) struct ProcessCollector {
    cpu: Counter,
    max_fds: Gauge,
    open_fds: Gauge,
    resident_memory: Gauge,
    virtual_memory: Gauge,
    threads: Gauge,
    start_time: Gauge,
}

impl ProcessCollector {
    /// `started` is the time of the start since the Unix epoch.
    pub(super) fn new(started: Duration) -> Result<Self, prometheus::Error> {
        let start_time = Gauge::new("process_start_time_seconds", "Unix time when the process was started.")?;
        start_time.set(started.as_secs_f64());
        Ok(Self {
            cpu: Counter::new("process_cpu_seconds_total", "CPU time of the process, user and system.")?,
            max_fds: Gauge::new("process_max_fds", "Most file descriptors that may be open.")?,
            open_fds: Gauge::new("process_open_fds", "Open file descriptors.")?,
            resident_memory: Gauge::new("process_resident_memory_bytes", "Resident memory.")?,
            virtual_memory: Gauge::new("process_virtual_memory_bytes", "Address space.")?,
            threads: Gauge::new("process_threads", "Threads of the process.")?,
            start_time,
        })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [
            &self.max_fds,
            &self.open_fds,
            &self.resident_memory,
            &self.virtual_memory,
            &self.threads,
            &self.start_time,
        ];
        gauges.into_iter().flat_map(Collector::desc).chain(self.cpu.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(cpu).unwrap_or_default().as_secs_f64();
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        let [virtual_memory, resident_memory] = memory_bytes();
        let gauges = [
            (&self.max_fds, getrlimit(Resource::Nofile).current.map(number)),
            (&self.open_fds, entries("/proc/self/fd")),
            (&self.resident_memory, resident_memory),
            (&self.virtual_memory, virtual_memory),
            (&self.threads, entries("/proc/self/task")),
            (&self.start_time, Some(self.start_time.get())),
        ];
        let known = gauges.into_iter().filter_map(|(gauge, value)| {
            gauge.set(value?);
            Some(gauge.collect())
        });
        self.cpu.collect().into_iter().chain(known.flatten()).collect()
    }
}

/// Returns the address space and the resident memory, the first two numbers of `/proc/self/statm`, which are in pages.
fn memory_bytes() -> [Option<f64>; 2] {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_ascii_whitespace().map(|pages| pages.parse::<u64>().ok());
    let page_bytes = rustix::param::page_size() as u64;
    [pages.next(), pages.next()].map(|pages| Some(number(pages.flatten()? * page_bytes)))
}

/// Returns the number of files in a folder.
fn entries(folder: &str) -> Option<f64> {
    Some(number(fs::read_dir(folder).ok()?.count() as u64))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_process_is_known_on_linux() {
        let collector = ProcessCollector::new(Duration::from_secs(1_700_000_000)).unwrap();
        let families = collector.collect();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        assert_eq!(families.len(), collector.desc().len());
        assert_eq!(value("process_start_time_seconds"), 1_700_000_000.0);
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_threads") >= 1.0);
        assert!((1.0..=value("process_max_fds")).contains(&value("process_open_fds")));
        let resident = value("process_resident_memory_bytes");
        assert!(resident > 100_000.0 && resident <= value("process_virtual_memory_bytes"));
    }
}
