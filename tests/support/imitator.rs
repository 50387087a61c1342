//! A proxy before a real server that replies as another server or service would: it refuses commands, and leaves out or
//! changes fields. For clients that use RESP2.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The differences from the server behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Imitation {
    /// Beginnings of commands that are refused, in upper case (`HELLO`, `XINFO CONSUMERS`), and the error.
    pub refused: &'static [(&'static str, &'static str)],
    /// Fields that are missing in replies to XINFO.
    pub without: &'static [&'static str],
    /// Fields of replies to XINFO and HELLO with another value, as it is sent: `:18446744073709551615`.
    pub with: &'static [(&'static str, &'static str)],
}

/// A listener on a loopback port. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Imitator {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Imitator {
    pub async fn before(server: SocketAddr, imitation: Imitation) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(imitate(client, server, imitation));
            }
        });
        Self { address, task }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Imitator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Handles a connection, command by command. An error closes it.
async fn imitate(mut client: TcpStream, server: SocketAddr, imitation: Imitation) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut commands, mut replies) = (Vec::new(), Vec::new());
    while let Some(command) = next(&mut client, &mut commands).await? {
        let words = command.words();
        let reply = match imitation.refused.iter().find(|(start, _)| words.starts_with(start)) {
            Some((_, error)) => Frame::Scalar(format!("-{error}\r\n").into_bytes()),
            None => {
                server.write_all(&command.bytes()).await?;
                let Some(reply) = next(&mut server, &mut replies).await? else { return Ok(()) };
                if words.starts_with("XINFO") || words.starts_with("HELLO") {
                    reply.changed(&imitation)
                } else {
                    reply
                }
            }
        };
        client.write_all(&reply.bytes()).await?;
    }
    Ok(())
}

/// Reads a command or a reply; `None` if the connection is closed.
async fn next(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    loop {
        if let Some((frame, length)) = Frame::parse(buffer) {
            buffer.drain(..length);
            return Ok(Some(frame));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// A value of RESP2, as it is sent.
#[derive(Debug)]
enum Frame {
    Scalar(Vec<u8>),
    List(Vec<Self>),
}

impl Frame {
    /// Parses the first value and its length; `None` if more bytes are needed.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let count = || std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse::<usize>().ok();
        match (bytes[0], count()) {
            (b'*', Some(count)) => {
                let (mut items, mut at) = (Vec::new(), line);
                for _ in 0..count {
                    let (item, length) = Self::parse(bytes.get(at..)?)?;
                    items.push(item);
                    at += length;
                }
                Some((Self::List(items), at))
            }
            (b'$', Some(count)) => {
                let text = bytes.get(..line + count + 2)?;
                Some((Self::Scalar(text.to_vec()), text.len()))
            }
            _ => Some((Self::Scalar(bytes[..line].to_vec()), line)),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Scalar(bytes) => bytes.clone(),
            Self::List(items) => {
                let items_as_sent = items.iter().flat_map(Self::bytes);
                format!("*{}\r\n", items.len()).into_bytes().into_iter().chain(items_as_sent).collect()
            }
        }
    }

    /// Returns the text of a string; `None` for everything else.
    fn text(&self) -> Option<String> {
        let Self::Scalar(bytes) = self else { return None };
        let sent = std::str::from_utf8(bytes).ok()?;
        sent.strip_prefix('$')?.split("\r\n").nth(1).map(str::to_owned)
    }

    /// Returns the words of a command, in upper case.
    fn words(&self) -> String {
        let Self::List(words) = self else { return String::new() };
        words.iter().filter_map(Self::text).collect::<Vec<_>>().join(" ").to_uppercase()
    }

    fn changed(self, imitation: &Imitation) -> Self {
        let Self::List(items) = self else { return self };
        let is_fields = items.len() % 2 == 0 && items.iter().step_by(2).all(|name| name.text().is_some());
        if !is_fields {
            return Self::List(items.into_iter().map(|item| item.changed(imitation)).collect());
        }
        let mut fields = Vec::new();
        let mut items = items.into_iter();
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            let text = name.text().unwrap();
            if imitation.without.contains(&text.as_str()) {
                continue;
            }
            let other = imitation.with.iter().find(|(name, _)| *name == text);
            let other = other.map(|(_, value)| Self::Scalar(format!("{value}\r\n").into_bytes()));
            fields.extend([name, other.unwrap_or_else(|| value.changed(imitation))]);
        }
        Self::List(fields)
    }
}
