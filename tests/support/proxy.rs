//! A proxy before a receiver or server, with a configurable fault.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::receiver::{Received, receive};

/// The behaviour on each connection.
#[derive(Clone, Copy, Debug)]
pub enum ProxyMode {
    /// Forwards everything.
    Forward,
    /// Forwards everything after this delay, even if the sender has closed the connection meanwhile.
    Delay(Duration),
    /// Reads once, replies with these bytes, and closes the connection.
    Reply(&'static [u8]),
    /// Replies 500 to requests that contain this text, and forwards the others.
    RejectContaining(&'static str),
    /// Reads, and never replies.
    Hang,
    /// Forwards everything up to a command that contains this text, and nothing from there on.
    HangAt(&'static str),
    /// Forwards everything up to a command that contains this text, and the rest once the mode is another.
    HoldAt(&'static str),
    /// Reads once, and resets the connection.
    Reset,
}

/// A listener on a loopback port. Dropping it closes all its connections.
pub struct FaultyProxy {
    pub address: SocketAddr,
    mode: Arc<Mutex<ProxyMode>>,
    connections: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl FaultyProxy {
    pub async fn before(receiver: SocketAddr, mode: ProxyMode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(mode));
        let connections = Arc::new(AtomicU32::new(0));
        let (current, counted) = (Arc::clone(&mode), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let mode = *current.lock().unwrap();
                tasks.spawn(handle(stream, receiver, mode, Arc::clone(&current)));
            }
        });
        Self { address, mode, connections, task }
    }

    /// Changes the behaviour from the next connection on.
    pub fn set_mode(&self, mode: ProxyMode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Returns the number of connections accepted so far.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Handles a connection. An error closes it.
async fn handle(
    mut stream: TcpStream,
    receiver: SocketAddr,
    mode: ProxyMode,
    current: Arc<Mutex<ProxyMode>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    match mode {
        ProxyMode::Forward => {
            copy_bidirectional(&mut stream, &mut TcpStream::connect(receiver).await?).await?;
        }
        ProxyMode::Delay(time) => {
            sleep(time).await;
            let mut receiver = TcpStream::connect(receiver).await?;
            let (mut from, mut to) = stream.split();
            let (mut replies, mut requests) = receiver.split();
            // Each direction separately: a sender that no longer reads must not stop what it has sent.
            let (_, _) = tokio::join!(
                tokio::io::copy(&mut from, &mut requests),
                tokio::io::copy(&mut replies, &mut to)
            );
        }
        ProxyMode::Reply(words) => {
            let _ = stream.read(&mut buffer).await?;
            stream.write_all(words).await?;
        }
        ProxyMode::RejectContaining(text) => {
            let Some(Received { head, body, .. }) = receive(&mut stream).await else { return Ok(()) };
            let body = body.to_string();
            if body.contains(text) {
                stream.write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await?;
                return Ok(());
            }
            let mut receiver = TcpStream::connect(receiver).await?;
            receiver.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
            copy_bidirectional(&mut stream, &mut receiver).await?;
        }
        ProxyMode::Hang => while stream.read(&mut buffer).await? > 0 {},
        ProxyMode::HangAt(text) => {
            let mut receiver = TcpStream::connect(receiver).await?;
            let (mut from, mut to) = stream.split();
            let (mut replies, mut requests) = receiver.split();
            let answering = tokio::io::copy(&mut replies, &mut to);
            tokio::select! {
                asked = pass_until(text, &mut from, &mut requests) => asked?,
                answered = answering => drop(answered?),
            }
        }
        ProxyMode::HoldAt(text) => {
            let mut receiver = TcpStream::connect(receiver).await?;
            let (mut from, mut to) = stream.split();
            let (mut replies, mut requests) = receiver.split();
            let is_held = || matches!(*current.lock().unwrap(), ProxyMode::HoldAt(_));
            let (_, _) = tokio::join!(
                pass_and_hold(text, is_held, &mut from, &mut requests),
                tokio::io::copy(&mut replies, &mut to)
            );
        }
        ProxyMode::Reset => {
            let _ = stream.read(&mut buffer).await?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

/// Forwards bytes up to a chunk that contains this text, then drops the rest. Ends with the sender.
async fn pass_until(
    text: &str,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    let mut was_found = false;
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        was_found |= buffer[..read].windows(text.len()).any(|piece| piece == text.as_bytes());
        if !was_found {
            to.write_all(&buffer[..read]).await?;
        }
    }
}

/// Forwards bytes; a chunk that contains this text is held as long as `is_held`. Ends with the sender.
async fn pass_and_hold(
    text: &str,
    is_held: impl Fn() -> bool,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let is_found = buffer[..read].windows(text.len()).any(|piece| piece == text.as_bytes());
        while is_found && is_held() {
            sleep(Duration::from_millis(5)).await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}
