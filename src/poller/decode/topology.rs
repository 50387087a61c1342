//! Decodes the role of a node, and the addresses that sentinels and cluster nodes report.

use super::{DecodeError, Decoded, array, bytes, count, fields};
use crate::poller::resp::{Value, Values};
use crate::poller::slots::Range;

/// The fields of HELLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// server, such as `redis`.
    pub server: String,
    /// version, such as `7.0.15`.
    pub version: String,
    /// role: `master`, `replica` or, of a sentinel, nothing.
    pub role: String,
    /// mode: `standalone`, `cluster` or `sentinel`.
    pub mode: String,
}

/// Decodes HELLO without arguments.
pub fn hello(reply: Value<'_>) -> Decoded<Hello> {
    let mut hello = Hello::default();
    for field in fields(reply)? {
        let (field, value) = field?;
        let slot = match field {
            b"server" => &mut hello.server,
            b"version" => &mut hello.version,
            b"role" => &mut hello.role,
            b"mode" => &mut hello.mode,
            _ => continue,
        };
        *slot = String::from_utf8_lossy(bytes(value)?).into_owned();
    }
    Ok(hello)
}

/// A server process and the data set that it holds, from INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerProcess {
    /// `run_id`: random, drawn at each start of the server.
    run_id: String,
    /// `master_replid`: random, drawn when a server becomes a master; a replica has its master's.
    replication_id: String,
    /// `master_repl_offset`: only grows while the two above stay.
    offset: u64,
}

impl ServerProcess {
    /// Returns the run ID, which is another one after a restart.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Returns true if a later reading is of the same process and data set, so that all changes in between were
    /// ordinary writes.
    pub fn is_continued_by(&self, later: &Self) -> bool {
        (&self.run_id, &self.replication_id) == (&later.run_id, &later.replication_id)
            && self.offset <= later.offset
    }
}

/// Decodes INFO server and INFO replication.
pub fn process(server: Value<'_>, replication: Value<'_>) -> Decoded<ServerProcess> {
    let (server, replication) = (bytes(server)?, bytes(replication)?);
    let text = |info: &[u8], name: &str| {
        let info = String::from_utf8_lossy(info);
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let process = || {
        Some(ServerProcess {
            run_id: text(server, "run_id")?,
            replication_id: text(replication, "master_replid")?,
            offset: text(replication, "master_repl_offset")?.parse().ok()?,
        })
    };
    process().ok_or(DecodeError("INFO has no run_id, master_replid or master_repl_offset"))
}

/// Decodes SENTINEL GET-MASTER-ADDR-BY-NAME: host and port.
pub fn address(reply: Value<'_>) -> Decoded<(String, u16)> {
    let mut parts = array(reply)?;
    let (Some(host), Some(port)) = (parts.next(), parts.next()) else {
        return Err(DecodeError("expected a host and a port"));
    };
    Ok((String::from_utf8_lossy(bytes(host)?).into_owned(), port_number(port)?))
}

/// Decodes SENTINEL MASTERS: the name of each master.
pub fn master_names(reply: Value<'_>) -> Decoded<Vec<String>> {
    let name = |master: Value<'_>| {
        for field in fields(master)? {
            if let (b"name", value) = field? {
                return Ok(String::from_utf8_lossy(bytes(value)?).into_owned());
            }
        }
        Err(DecodeError("SENTINEL MASTERS lacks a name"))
    };
    array(reply)?.map(name).collect()
}

/// Decodes SENTINEL SENTINELS: host and port of each.
pub fn sentinel_addresses(reply: Value<'_>) -> Decoded<Vec<(String, u16)>> {
    let address = |sentinel: Value<'_>| {
        let (mut host, mut port) = (None, None);
        for field in fields(sentinel)? {
            match field? {
                (b"ip", value) => host = Some(String::from_utf8_lossy(bytes(value)?).into_owned()),
                (b"port", value) => port = Some(port_number(value)?),
                _ => {}
            }
        }
        host.zip(port).ok_or(DecodeError("SENTINEL SENTINELS lacks an address"))
    };
    array(reply)?.map(address).collect()
}

fn port_number(reply: Value<'_>) -> Decoded<u16> {
    count(reply)?.try_into().map_err(|_| DecodeError("expected a port"))
}

fn slot(reply: Value<'_>) -> Decoded<u16> {
    count(reply)?.try_into().map_err(|_| DecodeError("expected the number of a slot"))
}

/// Decodes CLUSTER SLOTS: the master of each range of slots.
pub fn cluster_slots(reply: Value<'_>) -> Decoded<Vec<Range>> {
    let run = |run: Value<'_>| {
        let mut parts = array(run)?;
        let (Some(first), Some(last), Some(master)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(DecodeError("CLUSTER SLOTS lacks a master"));
        };
        let mut master = array(master)?;
        let (Some(host), Some(port)) = (master.next(), master.next()) else {
            return Err(DecodeError("CLUSTER SLOTS lacks the address of a master"));
        };
        let master = (host_name(host)?, port_number(port)?);
        Ok(Range { first: slot(first)?, last: slot(last)?, master })
    };
    array(reply)?.map(run).collect()
}

/// Decodes a host; nil means that the node does not know its own.
fn host_name(reply: Value<'_>) -> Decoded<String> {
    match reply {
        Value::Nil => Ok(String::new()),
        reply => Ok(String::from_utf8_lossy(bytes(reply)?).into_owned()),
    }
}

/// Decodes CLUSTER SHARDS: the online master of each range of slots. `port_field` is `port` or `tls-port`.
pub fn cluster_shards(reply: Value<'_>, port_field: &[u8]) -> Decoded<Vec<Range>> {
    let mut ranges = Vec::new();
    for shard in array(reply)? {
        let (mut slots, mut nodes) = (Vec::new(), Values::default());
        for field in fields(shard)? {
            let (field, value) = field?;
            match field {
                b"slots" => slots = array(value)?.map(slot).collect::<Decoded<_>>()?,
                b"nodes" => nodes = array(value)?,
                _ => {}
            }
        }
        let mut masters = Vec::new();
        for node in nodes {
            masters.extend(shard_master(node, port_field)?);
        }
        masters.sort_by_key(|(is_failing, _)| *is_failing);
        let Some((_, master)) = masters.into_iter().next() else { continue };
        let run = |run: &[u16]| Range { first: run[0], last: run[1], master: master.clone() };
        ranges.extend(slots.chunks_exact(2).map(run));
    }
    Ok(ranges)
}

/// Returns a master's address and whether it is failing; `None` for a replica.
fn shard_master(reply: Value<'_>, port_field: &[u8]) -> Decoded<Option<(bool, (String, u16))>> {
    let (mut host, mut port, mut is_master, mut is_failing) = (String::new(), 0, false, false);
    for field in fields(reply)? {
        let (field, value) = field?;
        match field {
            b"endpoint" => host = host_name(value)?,
            name if name == port_field => port = port_number(value)?,
            b"role" => is_master = bytes(value)? == b"master",
            b"health" => is_failing = bytes(value)? != b"online",
            _ => {}
        }
    }
    Ok((is_master && port != 0).then_some((is_failing, (host, port))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::resp::keep_all;

    /// Decodes a reply whose lines are separated by spaces.
    fn read<T>(text: &str, decode: impl Fn(Value<'_>) -> T) -> T {
        decode(Values::all(&keep_all(text.replace(' ', "\r\n").as_bytes()).unwrap()).next().unwrap())
    }

    fn range(first: u16, last: u16, host: &str, port: u16) -> Range {
        Range { first, last, master: (host.to_owned(), port) }
    }

    #[test]
    fn masters_are_the_first_nodes_of_cluster_slots_and_may_not_know_their_host() {
        let reply = "*2 *4 :0 :99 *3 $9 127.0.0.1 :7000 $1 a *3 $9 127.0.0.1 :7003 $1 d *3 :100 :16383 *3 $-1 :7001 $1 b ";
        let expected = [range(0, 99, "127.0.0.1", 7000), range(100, 16_383, "", 7001)];
        assert_eq!(read(reply, cluster_slots), Ok(expected.to_vec()));
        assert!(read("*1 *2 :0 :99 ", cluster_slots).is_err());
        assert!(read("*1 *3 :0 :99999 *2 $1 h :1 ", cluster_slots).is_err());
    }

    #[test]
    fn the_master_that_is_online_has_the_slots_of_a_shard() {
        let node = |port: u16, role: &str, health: &str| {
            let word = |word: &str| format!("${} {word} ", word.len());
            let port = format!("{}:{port} {}:{} ", word("port"), word("tls-port"), port + 100);
            let [endpoint, role, health] = [("endpoint", "h"), ("role", role), ("health", health)]
                .map(|(name, value)| format!("{}{}", word(name), word(value)));
            format!("*10 {port}{endpoint}{role}{health}")
        };
        let nodes = [node(1, "master", "fail"), node(2, "replica", "online"), node(3, "master", "online")];
        let text = format!("*1 *4 $5 slots *4 :0 :9 :20 :29 $5 nodes *3 {}", nodes.concat());
        let masters = |port| vec![range(0, 9, "h", port), range(20, 29, "h", port)];
        assert_eq!(read(&text, |reply| cluster_shards(reply, b"port")), Ok(masters(3)));
        assert_eq!(read(&text, |reply| cluster_shards(reply, b"tls-port")), Ok(masters(103)));
    }

    #[test]
    fn masters_and_sentinels_are_lists_of_fields() {
        let masters = "*2 *4 $4 name $1 a $2 ip $1 h *2 $4 name $1 b ";
        assert_eq!(read(masters, master_names), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert!(read("*1 *2 $2 ip $1 h ", master_names).is_err());
        let sentinels = "*1 *6 $4 name $1 x $2 ip $1 h $4 port $5 26379 ";
        assert_eq!(read(sentinels, sentinel_addresses), Ok(vec![("h".to_owned(), 26379)]));
        assert!(read("*1 *2 $2 ip $1 h ", sentinel_addresses).is_err());
        assert_eq!(read("*0 ", sentinel_addresses), Ok(Vec::new()));
    }

    #[test]
    fn a_master_has_a_host_and_a_port() {
        assert_eq!(read("*2 $9 127.0.0.1 $4 6380 ", address), Ok(("127.0.0.1".to_owned(), 6380)));
        assert!(read("*2 $9 127.0.0.1 $5 99999 ", address).is_err());
    }
}
