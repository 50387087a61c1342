//! Replies: RESP as it comes, and models that are encoded and must come back.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use redis::Value;
use redis_stream_core::name::Name;
use redis_stream_lag::question::{EntryRange, PendingEntry};
use redis_stream_lag::snapshot::{ConsumerInfo, Idmp, RadixTree};
use streamgauge::poller::decode::xinfo::{XinfoGroup, XinfoStream};
use streamgauge::poller::decode::{self, topology};
use streamgauge::poller::interner::NameInterner;
use streamgauge::poller::slots::redirect;

use super::model::{self, Consumer, Count, Group, Id, Label, Pending, Protocol, Reply, Stream};

/// Replies of one input that are taken: there may be thousands of a few bytes.
const MOST: usize = 64;

pub fn run(data: &[u8]) {
    let mut rest = data;
    let mut parser = redis::Parser::new();
    for _ in 0..MOST {
        let Ok(reply) = parser.parse_value(&mut rest) else { break };
        check_that_decoding_ends(&reply, data.len() as u64);
        if rest.is_empty() {
            break;
        }
    }
    if let Ok(model) = Model::arbitrary(&mut Unstructured::new(data)) {
        [Protocol::Resp2, Protocol::Resp3].into_iter().for_each(|protocol| model.check(protocol));
    }
}

/// Every decoder takes every reply, and what it makes of it is no more than there is.
fn check_that_decoding_ends(reply: &Value, bytes: u64) {
    let again = || reply.clone();
    if let Ok(stream) = decode::xinfo_stream(again()) {
        assert_eq!(stream.length > 0, stream.first.is_some() && stream.last.is_some());
        assert!(stream.entry_bytes <= stream.payload_bytes && stream.payload_bytes <= 4 * bytes);
    }
    if let Ok(whole) = decode::xinfo_stream_full(again()) {
        assert!(whole.group_count == whole.groups.len() as u64 && whole.group_count <= bytes);
    }
    if let Ok(pending) = decode::pending(again()) {
        let oldest = decode::oldest_pending(again());
        assert_eq!(oldest, Ok(pending.first().map(|(entry, _)| *entry)));
        assert_eq!(decode::length(again()).map(u64::from), Ok(pending.len() as u64));
    }
    if let Ok(entries) = decode::xrange(again()) {
        assert_eq!(decode::length(again()), Ok(entries.count));
        assert_eq!(entries.ends.is_some(), entries.count > 0);
    }
    if let Ok(ranges) = topology::cluster_shards(again(), b"port") {
        assert!(ranges.iter().all(|range| range.master.1 != 0) && ranges.len() as u64 <= bytes);
    }
    if let Some(redirect) = redirect(Some(reply)) {
        assert!(matches!(reply, Value::ServerError(_)), "{redirect:?} from {reply:?}");
    }
    let _ = (decode::xinfo_groups(again()), decode::xinfo_consumers(again(), &mut NameInterner::default()));
    let _ = (decode::time(again()), decode::scan(again()), topology::hello(again()));
    let _ = (topology::address(again()), topology::cluster_slots(again()));
}

/// One of each reply.
#[derive(Arbitrary, Debug)]
struct Model {
    stream: Stream,
    groups: Vec<Group>,
    consumers: Vec<Consumer>,
    pending: Vec<Pending>,
    entries: Vec<Id>,
    cursor: Count,
    keys: Vec<Label>,
    micros: u32,
    words: [Label; 4],
    port: u16,
    slots: (u16, u16),
}

impl Model {
    fn check(&self, protocol: Protocol) {
        self.check_the_stream(protocol);
        self.check_the_groups(protocol);
        self.check_the_entries(protocol);
        self.check_the_node(protocol);
    }

    fn check_the_stream(&self, protocol: Protocol) {
        let stream = decode::xinfo_stream(self.stream.reply().sent(protocol)).expect("it is one");
        let Stream { last_generated, groups, entries_added, max_deleted, radix_tree, idmp, .. } =
            &self.stream;
        let expected = XinfoStream {
            length: self.stream.length(),
            groups: groups.0,
            last_generated: last_generated.0,
            first: self.stream.ends().map(|ends| ends.0),
            last: self.stream.ends().map(|ends| ends.1),
            entries_added: entries_added.map(|added| added.0),
            max_deleted: max_deleted.map(|id| id.0),
            radix_tree: RadixTree { keys: radix_tree.0.0, nodes: radix_tree.1.0 },
            idmp: idmp.as_ref().map(|idmp| {
                let [
                    duration_seconds,
                    max_size,
                    producer_ids_tracked,
                    idempotent_ids_tracked,
                    entries_added,
                    duplicates,
                ] = idmp.each_ref().map(|count| count.0);
                Box::new(Idmp {
                    duration_seconds,
                    max_size,
                    producer_ids_tracked,
                    idempotent_ids_tracked,
                    entries_added,
                    duplicates,
                })
            }),
            entry_bytes: stream.entry_bytes,
            payload_bytes: stream.payload_bytes,
        };
        assert_eq!(stream, expected);
    }

    fn check_the_groups(&self, protocol: Protocol) {
        let groups = decode::xinfo_groups(model::list(&self.groups, Group::reply).sent(protocol));
        let group = |group: &Group| XinfoGroup {
            name: group.name.0.clone(),
            consumers: group.consumers.0,
            pending: group.pending.0,
            last_delivered: group.last_delivered.0,
            entries_read: group.entries_read.map(|read| read.0),
        };
        assert_eq!(groups, Ok(self.groups.iter().map(group).collect()));
        let reply = model::list(&self.consumers, Consumer::reply).sent(protocol);
        let consumer = |consumer: &Consumer| ConsumerInfo {
            name: Name::from(consumer.name.0.as_slice()),
            pending: consumer.pending.0,
            idle_ms: consumer.idle.0,
            inactive_ms: consumer.inactive.map(|inactive| inactive.0),
        };
        let consumers = decode::xinfo_consumers(reply, &mut NameInterner::default());
        assert_eq!(consumers, Ok(self.consumers.iter().map(consumer).collect()));
    }

    fn check_the_entries(&self, protocol: Protocol) {
        let pending = decode::pending(model::list(&self.pending, Pending::reply).sent(protocol));
        let entry = |pending: &Pending| {
            let (id, deliveries) = (pending.id.0, pending.deliveries.0);
            let entry = PendingEntry { id, idle_ms: pending.idle.map(|idle| idle.0), deliveries };
            (entry, Name::from(pending.consumer.0.as_slice()))
        };
        assert_eq!(pending, Ok(self.pending.iter().map(entry).collect()));
        let entries = decode::xrange(model::entries(&self.entries).sent(protocol));
        let ends = self.entries.first().zip(self.entries.last()).map(|(first, last)| (first.0, last.0));
        let count = u32::try_from(self.entries.len()).expect("there are few");
        assert_eq!(entries, Ok(EntryRange { count, ends }));
    }

    fn check_the_node(&self, protocol: Protocol) {
        let keys = model::list(&self.keys, |key| Reply::Text(key.0.clone()));
        let scan =
            decode::scan(Reply::List(vec![Reply::text(self.cursor.0.to_string()), keys]).sent(protocol));
        let keys = self.keys.iter().map(|key| Name::from(key.0.as_slice())).collect();
        assert_eq!(scan, Ok((self.cursor.0, keys)));
        let now = Duration::from_micros(u64::from(self.micros) << 20);
        assert_eq!(decode::time(model::time(now).sent(protocol)), Ok(now));
        let word = |at: usize| String::from_utf8_lossy(&self.words[at].0).into_owned();
        let names = ["server", "version", "role", "mode"];
        let fields = names.into_iter().enumerate().map(|(at, name)| (name, Reply::text(word(at)))).collect();
        let hello = topology::hello(Reply::Fields(fields).sent(protocol)).expect("it is one");
        assert_eq!([hello.server, hello.version, hello.role, hello.mode], [0, 1, 2, 3].map(word));
        self.check_the_cluster(protocol, &(word(0), self.port));
    }

    fn check_the_cluster(&self, protocol: Protocol, address: &(String, u16)) {
        let slots = [self.slots.0, self.slots.1].map(|slot| Reply::count(u64::from(slot)));
        let port = Reply::count(u64::from(address.1));
        let node = Reply::List(vec![Reply::text(address.0.as_str()), port.clone()]);
        let run = Reply::List(vec![slots[0].clone(), slots[1].clone(), node]);
        let by_slots = topology::cluster_slots(Reply::List(vec![run]).sent(protocol)).expect("it is one");
        let fields = vec![
            ("port", port),
            ("endpoint", Reply::text(address.0.as_str())),
            ("role", Reply::text("master")),
            ("health", Reply::text("online")),
        ];
        let nodes = Reply::List(vec![Reply::Fields(fields)]);
        let shard = Reply::Fields(vec![("slots", Reply::List(slots.to_vec())), ("nodes", nodes)]);
        let by_shards = topology::cluster_shards(Reply::List(vec![shard]).sent(protocol), b"port");
        assert_eq!((by_slots[0].first, by_slots[0].last), self.slots);
        assert_eq!(by_slots[0].master, *address);
        assert_eq!(by_shards, Ok(if address.1 == 0 { Vec::new() } else { by_slots }));
    }
}
