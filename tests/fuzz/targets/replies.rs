//! Replies: RESP as it comes, and models that are encoded and must come back.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use redis_stream_core::name::Name;
use redis_stream_lag::question::{EntryRange, PendingEntry};
use redis_stream_lag::snapshot::{ConsumerInfo, Idmp, RadixTree};
use streamgauge::poller::decode::xinfo::{XinfoGroup, XinfoStream};
use streamgauge::poller::decode::{self, topology};
use streamgauge::poller::interner::NameInterner;
use streamgauge::poller::resp::{End, Scanner, Value, Values};
use streamgauge::poller::slots::redirect;

use super::model::{self, Consumer, Count, Group, Id, Label, Pending, Protocol, Reply, Stream};

/// Replies of one input that are taken: there may be thousands of a few bytes.
const MOST: usize = 64;

pub fn run(data: &[u8]) {
    let kept = kept_of(data);
    for reply in Values::all(&kept).take(MOST) {
        check_that_decoding_ends(reply, data.len() as u64);
    }
    if let Ok(model) = Model::arbitrary(&mut Unstructured::new(data)) {
        [Protocol::Resp2, Protocol::Resp3].into_iter().for_each(|protocol| model.check(protocol));
    }
}

/// Returns what the scanner keeps of the whole replies, which does not depend on the parts that they arrive in.
fn kept_of(data: &[u8]) -> Vec<u8> {
    let (mut scanner, mut at, mut whole) = (Scanner::default(), 0, 0);
    while let Ok((taken, end)) = scanner.scan(&data[at..]) {
        at += taken;
        if end == End::Open {
            break;
        }
        whole = at;
    }
    let kept = scanner.take_replies();
    let mut by_byte = Scanner::default();
    for byte in &data[..whole] {
        by_byte.scan(&[*byte]).expect("it is RESP in parts, too");
    }
    assert_eq!(by_byte.take_replies(), kept, "of {}", data.escape_ascii());
    kept
}

/// Every decoder takes every reply, and what it makes of it is no more than there is.
fn check_that_decoding_ends(reply: Value<'_>, bytes: u64) {
    if let Ok(stream) = decode::xinfo_stream(reply) {
        assert_eq!(stream.length > 0, stream.first.is_some() && stream.last.is_some());
        assert!(stream.entry_bytes <= stream.payload_bytes && stream.payload_bytes <= 4 * bytes);
    }
    if let Ok(whole) = decode::xinfo_stream_full(reply) {
        assert!(whole.group_count == whole.groups.len() as u64 && whole.group_count <= bytes);
    }
    if let Ok(pending) = decode::pending(reply) {
        let oldest = decode::oldest_pending(reply, &mut NameInterner::default());
        assert_eq!(oldest, Ok(pending.first().cloned()));
        assert_eq!(decode::length(reply).map(u64::from), Ok(pending.len() as u64));
    }
    if let Ok(entries) = decode::xrange(reply) {
        assert_eq!(decode::length(reply), Ok(entries.count));
        assert_eq!(entries.ends.is_some(), entries.count > 0);
    }
    if let Ok(ranges) = topology::cluster_shards(reply, b"port") {
        assert!(ranges.iter().all(|range| range.master.1 != 0) && ranges.len() as u64 <= bytes);
    }
    if let Some(redirect) = redirect(reply) {
        assert!(matches!(reply, Value::Error(_)), "{redirect:?} from {reply:?}");
    }
    let _ = (decode::xinfo_groups(reply), decode::xinfo_consumers(reply, &mut NameInterner::default()));
    let _ = (decode::time(reply), decode::scan(reply), topology::hello(reply));
    let _ = (topology::address(reply), topology::cluster_slots(reply));
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
        let stream = self.stream.reply().sent(protocol, decode::xinfo_stream).expect("it is one");
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
        let expected = self.groups.iter().map(|group| XinfoGroup {
            name: &group.name.0,
            consumers: group.consumers.0,
            pending: group.pending.0,
            last_delivered: group.last_delivered.0,
            entries_read: group.entries_read.map(|read| read.0),
        });
        model::list(&self.groups, Group::reply)
            .sent(protocol, |reply| assert_eq!(decode::xinfo_groups(reply), Ok(expected.collect())));
        let reply = model::list(&self.consumers, Consumer::reply);
        let consumer = |consumer: &Consumer| ConsumerInfo {
            name: Name::from(consumer.name.0.as_slice()),
            pending: consumer.pending.0,
            idle_ms: consumer.idle.0,
            inactive_ms: consumer.inactive.map(|inactive| inactive.0.into()),
        };
        let consumers =
            reply.sent(protocol, |reply| decode::xinfo_consumers(reply, &mut NameInterner::default()));
        assert_eq!(consumers, Ok(self.consumers.iter().map(consumer).collect()));
    }

    fn check_the_entries(&self, protocol: Protocol) {
        let pending = model::list(&self.pending, Pending::reply).sent(protocol, decode::pending);
        let entry = |pending: &Pending| {
            let (id, deliveries) = (pending.id.0, pending.deliveries.0);
            let entry = PendingEntry { id, idle_ms: pending.idle.map(|idle| idle.0), deliveries };
            (entry, Name::from(pending.consumer.0.as_slice()))
        };
        assert_eq!(pending, Ok(self.pending.iter().map(entry).collect()));
        let entries = model::entries(&self.entries).sent(protocol, decode::xrange);
        let ends = self.entries.first().zip(self.entries.last()).map(|(first, last)| (first.0, last.0));
        let count = u32::try_from(self.entries.len()).expect("there are few");
        assert_eq!(entries, Ok(EntryRange { count, ends }));
    }

    fn check_the_node(&self, protocol: Protocol) {
        let keys = model::list(&self.keys, |key| Reply::Text(key.0.clone()));
        let reply = Reply::List(vec![Reply::text(self.cursor.0.to_string()), keys]);
        let scan = reply.sent(protocol, decode::scan);
        let keys = self.keys.iter().map(|key| Name::from(key.0.as_slice())).collect();
        assert_eq!(scan, Ok(decode::Scanned { cursor: self.cursor.0, keys, has_longer: false }));
        let now = Duration::from_micros(u64::from(self.micros) << 20);
        assert_eq!(model::time(now).sent(protocol, decode::time), Ok(now));
        let word = |at: usize| String::from_utf8_lossy(&self.words[at].0).into_owned();
        let names = ["server", "version", "role", "mode"];
        let fields = names.into_iter().enumerate().map(|(at, name)| (name, Reply::text(word(at)))).collect();
        let hello = Reply::Fields(fields).sent(protocol, topology::hello).expect("it is one");
        assert_eq!([hello.server, hello.version, hello.role, hello.mode], [0, 1, 2, 3].map(word));
        self.check_the_cluster(protocol, &(word(0), self.port));
    }

    fn check_the_cluster(&self, protocol: Protocol, address: &(String, u16)) {
        let slots = [self.slots.0, self.slots.1].map(|slot| Reply::count(u64::from(slot)));
        let port = Reply::count(u64::from(address.1));
        let node = Reply::List(vec![Reply::text(address.0.as_str()), port.clone()]);
        let run = Reply::List(vec![slots[0].clone(), slots[1].clone(), node]);
        let by_slots = Reply::List(vec![run]).sent(protocol, topology::cluster_slots).expect("it is one");
        let fields = vec![
            ("port", port),
            ("endpoint", Reply::text(address.0.as_str())),
            ("role", Reply::text("master")),
            ("health", Reply::text("online")),
        ];
        let nodes = Reply::List(vec![Reply::Fields(fields)]);
        let shard = Reply::Fields(vec![("slots", Reply::List(slots.to_vec())), ("nodes", nodes)]);
        let by_shards =
            Reply::List(vec![shard]).sent(protocol, |reply| topology::cluster_shards(reply, b"port"));
        assert_eq!((by_slots[0].first, by_slots[0].last), self.slots);
        assert_eq!(by_slots[0].master, *address);
        assert_eq!(by_shards, Ok(if address.1 == 0 { Vec::new() } else { by_slots }));
    }
}
