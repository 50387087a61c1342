//! A fake Redis server that replies with given bytes, or a faulty proxy before a real one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::server::free_port;
use super::wait::wait_until;

/// The behaviour on each connection.
#[derive(Clone, Copy, Debug)]
pub enum Behavior {
    /// Reads, and never replies.
    NoReply,
    /// Replies to the first read with these bytes, and reads on.
    ReplyOnce(&'static [u8]),
    /// Replies to every read with these bytes.
    ReplyAlways(&'static [u8]),
    /// Replies to the first read with these bytes, and closes the connection.
    ReplyAndClose(&'static [u8]),
    /// Sends these bytes before any read, and closes the connection.
    SendAndClose(&'static [u8]),
    /// Sends these bytes before any read, and reads on.
    SendFirst(&'static [u8]),
    /// Forwards to a server, and closes the connection after `after` bytes of replies.
    CutOff { server: SocketAddr, after: usize },
    /// Replies as a Redis server with empty streams would, except to one command.
    Lie(Lie),
    /// Forwards to a server, with a fault.
    Forward { server: SocketAddr, fault: NetworkFault },
}

/// The reply to one command.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// The start of the command with its arguments.
    pub to: &'static str,
    /// The start of the reply.
    pub head: &'static str,
    /// The rest of the reply: this text, `count` times.
    pub part: &'static str,
    pub count: u64,
}

/// A fault of the network before a server.
#[derive(Clone, Copy, Debug)]
pub enum NetworkFault {
    /// Delays each part of a reply.
    Latency(Duration),
    /// Lets this number of bytes of replies through per second.
    Bandwidth(&'static AtomicU32),
    /// Resets the connection at one of this number of parts of replies, on average.
    Resets(u32),
    /// Forwards nothing after this number of bytes of replies, and keeps the connection open.
    Silence(usize),
    /// Replaces the first bytes by the second in each part of a reply.
    Replace(&'static [u8], &'static [u8]),
    /// Adds these bytes to each part of a reply after this number of bytes.
    Garbage(usize, &'static [u8]),
}

/// A listener on a loopback port. Dropping it closes all its connections.
#[derive(Debug)]
pub struct FakeServer {
    pub address: SocketAddr,
    connections: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl FakeServer {
    /// Listens on a free port, which stays free once this is closed.
    pub async fn new(behavior: Behavior) -> Self {
        loop {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            // Another test program may have taken the port.
            if let Ok(listener) = TcpListener::bind(address).await {
                return Self::over(listener, behavior);
            }
        }
    }

    pub async fn on(address: SocketAddr, behavior: Behavior) -> Self {
        Self::over(TcpListener::bind(address).await.expect("the address is free"), behavior)
    }

    fn over(listener: TcpListener, behavior: Behavior) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let connections = Arc::new(AtomicU32::new(0));
        let accepted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(handle(stream, behavior));
            }
        });
        Self { address, connections, task }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Closes it, and returns when its address is free. A child process that another test has just forked holds the
    /// socket until it executes its program.
    pub async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        let is_refused = async || TcpStream::connect(self.address).await.is_err();
        wait_until(Duration::from_secs(10), "the address is free", is_refused).await;
    }

    /// Returns the number of connections accepted so far.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Handles a connection. An error closes it.
async fn handle(mut stream: TcpStream, behavior: Behavior) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    match behavior {
        Behavior::NoReply => {}
        Behavior::SendAndClose(words) => return stream.write_all(words).await,
        Behavior::SendFirst(words) => stream.write_all(words).await?,
        Behavior::ReplyOnce(words) => {
            let _ = stream.read(&mut buffer).await?;
            stream.write_all(words).await?;
        }
        Behavior::ReplyAlways(words) => {
            while stream.read(&mut buffer).await? > 0 {
                stream.write_all(words).await?;
            }
        }
        Behavior::ReplyAndClose(words) => {
            let _ = stream.read(&mut buffer).await?;
            return stream.write_all(words).await;
        }
        Behavior::CutOff { server, after } => return cut_off(stream, server, after).await,
        Behavior::Lie(lie) => return reply_as_redis(stream, lie).await,
        Behavior::Forward { server, fault } => return forward(stream, server, fault).await,
    }
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn reply_as_redis(stream: TcpStream, lie: Lie) -> std::io::Result<()> {
    let port = stream.local_addr()?.port();
    let (input, mut output) = stream.into_split();
    let mut lines = BufReader::new(input).lines();
    while let Some(line) = lines.next_line().await? {
        let count: usize = line.trim_start_matches('*').parse().expect("a command is an array");
        let mut words = Vec::new();
        for _ in 0..count {
            lines.next_line().await?;
            words.extend(lines.next_line().await?);
        }
        let command = words.join(" ");
        if !command.starts_with(lie.to) {
            output.write_all(honest(&command, port).as_bytes()).await?;
            continue;
        }
        output.write_all(lie.head.as_bytes()).await?;
        let at_once = (64 * 1024 / lie.part.len().max(1) as u64).max(1);
        let many = lie.part.repeat(usize::try_from(at_once).expect("it is small"));
        let mut left = lie.count;
        while left > 0 {
            let count = left.min(at_once);
            let bytes = lie.part.len() * usize::try_from(count).expect("it is small");
            output.write_all(&many.as_bytes()[..bytes]).await?;
            left -= count;
        }
    }
    Ok(())
}

fn honest(command: &str, port: u16) -> String {
    let list = |words: &[&str]| {
        let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
        format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>())
    };
    match command.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["HELLO"] => list(&["server", "redis", "version", "8.2.0", "role", "master", "mode", "standalone"]),
        ["TIME"] => list(&["1700000000", "0"]),
        ["CLIENT", _] | ["AUTH", _] => "+OK\r\n".to_owned(),
        // One master, on the host that was asked.
        ["CLUSTER", "SLOTS"] => {
            format!("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$0\r\n\r\n:{port}\r\n$1\r\nn\r\n")
        }
        ["XINFO", "GROUPS"] => "*0\r\n".to_owned(),
        ["XINFO", "STREAM"] => list(&["length", "0", "groups", "0", "last-generated-id", "0-0"]),
        _ => "-NOPERM this user has no permissions\r\n".to_owned(),
    }
}

async fn cut_off(mut client: TcpStream, server: SocketAddr, mut after: usize) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut requests, mut replies) = ([0; 4096], [0; 4096]);
    while after > 0 {
        tokio::select! {
            read = client.read(&mut requests) => match read? {
                0 => return Ok(()),
                read => server.write_all(&requests[..read]).await?,
            },
            read = server.read(&mut replies) => {
                let read = read?.min(after);
                client.write_all(&replies[..read]).await?;
                after -= read;
            }
        }
    }
    Ok(())
}

async fn forward(mut client: TcpStream, server: SocketAddr, fault: NetworkFault) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut requests, mut replies, mut passed) = ([0; 4096], [0; 4096], 0);
    loop {
        tokio::select! {
            read = client.read(&mut requests) => match read? {
                0 => return Ok(()),
                read => server.write_all(&requests[..read]).await?,
            },
            read = server.read(&mut replies) => {
                let read = read?;
                passed += read;
                match fault {
                    _ if read == 0 => return Ok(()),
                    NetworkFault::Latency(time) => tokio::time::sleep(time).await,
                    NetworkFault::Bandwidth(rate) => {
                        let seconds = read as f64 / f64::from(rate.load(Ordering::Relaxed));
                        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                    }
                    NetworkFault::Resets(one_in) if fastrand::u32(0..one_in) == 0 => {
                        return socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                    }
                    NetworkFault::Silence(after) if passed > after => {
                        while client.read(&mut requests).await? > 0 {}
                        return Ok(());
                    }
                    NetworkFault::Garbage(after, bytes) if passed > after => client.write_all(bytes).await?,
                    NetworkFault::Replace(from, to) => {
                        client.write_all(&replaced(&replies[..read], from, to)).await?;
                        continue;
                    }
                    NetworkFault::Resets(_) | NetworkFault::Silence(_) | NetworkFault::Garbage(..) => {}
                }
                client.write_all(&replies[..read]).await?;
            }
        }
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut replaced = Vec::with_capacity(bytes.len());
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(from) {
            replaced.extend_from_slice(to);
            rest = after;
        } else {
            replaced.push(*first);
            rest = &rest[1..];
        }
    }
    replaced
}
