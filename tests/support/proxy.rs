//! A proxy before a receiver, which misbehaves as it is told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::receiver::{Received, receive};

/// What it does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Passes everything on.
    Passes,
    /// The same, but nothing before this time is over, even if the sender has gone meanwhile.
    Delays(Duration),
    /// Reads some, answers this, and closes the connection.
    Answers(&'static [u8]),
    /// Answers 500 to what holds this text, and passes the rest on.
    ChokesOn(&'static str),
    /// Reads some, and never answers.
    Hangs,
    /// Passes everything on, and from a command that holds this text on nothing more.
    HangsOn(&'static str),
    /// Reads some, and resets the connection.
    Resets,
}

/// A listener on a loopback port; it is gone, with all its connections, when this is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    connections: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// One before this address.
    pub async fn before(receiver: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manner = Arc::new(Mutex::new(manner));
        let connections = Arc::new(AtomicU32::new(0));
        let (told, counted) = (Arc::clone(&manner), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let manner = *told.lock().unwrap();
                tasks.spawn(behave(stream, receiver, manner));
            }
        });
        Self { address, manner, connections, task }
    }

    /// Behaves like this from the next connection on.
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An error ends the connection, as its end does.
async fn behave(mut stream: TcpStream, receiver: SocketAddr, manner: Manner) -> std::io::Result<()> {
    let mut heard = vec![0; 65_536];
    match manner {
        Manner::Passes => {
            copy_bidirectional(&mut stream, &mut TcpStream::connect(receiver).await?).await?;
        }
        Manner::Delays(time) => {
            sleep(time).await;
            let mut receiver = TcpStream::connect(receiver).await?;
            let (mut from, mut to) = stream.split();
            let (mut answers, mut asks) = receiver.split();
            // Each way by itself: that the sender does not listen any more does not stop what it has sent.
            let (_, _) =
                tokio::join!(tokio::io::copy(&mut from, &mut asks), tokio::io::copy(&mut answers, &mut to));
        }
        Manner::Answers(words) => {
            let _ = stream.read(&mut heard).await?;
            stream.write_all(words).await?;
        }
        Manner::ChokesOn(text) => {
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
        Manner::Hangs => while stream.read(&mut heard).await? > 0 {},
        Manner::HangsOn(text) => {
            let mut receiver = TcpStream::connect(receiver).await?;
            let (mut from, mut to) = stream.split();
            let (mut answers, mut asks) = receiver.split();
            let answering = tokio::io::copy(&mut answers, &mut to);
            tokio::select! {
                asked = pass_until(text, &mut from, &mut asks) => asked?,
                answered = answering => drop(answered?),
            }
        }
        Manner::Resets => {
            let _ = stream.read(&mut heard).await?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

/// Passes on what comes, up to what holds this text, and then nothing; ends with the sender.
async fn pass_until(
    text: &str,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut heard = vec![0; 65_536];
    let mut has_come = false;
    loop {
        let read = from.read(&mut heard).await?;
        if read == 0 {
            return Ok(());
        }
        has_come |= heard[..read].windows(text.len()).any(|piece| piece == text.as_bytes());
        if !has_come {
            to.write_all(&heard[..read]).await?;
        }
    }
}
