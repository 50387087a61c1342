//! A fake server: it answers with what a test gives it, or not at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::server::free_port;
use super::wait::wait_until;

/// What it does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Reads, and never answers.
    Silent,
    /// Answers the first thing it reads with these bytes, and reads on.
    Says(&'static [u8]),
    /// Answers everything it reads with these bytes.
    Repeats(&'static [u8]),
    /// Answers the first thing it reads with these bytes, and closes the connection.
    SaysAndCloses(&'static [u8]),
    /// Says these bytes before it is asked, and reads on.
    Greets(&'static [u8]),
    /// Passes everything on to a server, and closes the connection after so many bytes of replies.
    CutsOff {
        /// The server.
        server: SocketAddr,
        /// Bytes of replies that still come through.
        after: usize,
    },
    /// Passes everything on to a server, with a fault.
    Passes {
        /// The server.
        server: SocketAddr,
        /// What is wrong with the way there.
        fault: Fault,
    },
}

/// What is wrong with the way to a server.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Each reply takes so much longer.
    Latency(Duration),
    /// One of so many parts of replies resets the connection instead, on average.
    Resets(u32),
    /// After so many bytes of replies nothing comes any more, and the connection stays open.
    Silence(usize),
    /// After so many bytes of replies come these.
    Garbage(usize, &'static [u8]),
}

/// A listener on a loopback port; it is gone, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct FakeServer {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl FakeServer {
    /// On a free port, which nothing else takes when this is closed.
    pub async fn new(manner: Manner) -> Self {
        loop {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            // Another test program may have been quicker.
            if let Ok(listener) = TcpListener::bind(address).await {
                return Self::over(listener, manner);
            }
        }
    }

    /// On this address.
    pub async fn on(address: SocketAddr, manner: Manner) -> Self {
        Self::over(TcpListener::bind(address).await.expect("the address is free"), manner)
    }

    fn over(listener: TcpListener, manner: Manner) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let connections = Arc::new(AtomicU32::new(0));
        let accepted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(behave(stream, manner));
            }
        });
        Self { address, connections, task }
    }

    /// `redis://` and its address.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends it; on return its address is free. A child that another test has just forked holds the socket, too,
    /// until it becomes another program.
    pub async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        let is_refused = async || TcpStream::connect(self.address).await.is_err();
        wait_until(Duration::from_secs(10), "nobody listens", is_refused).await;
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An error ends the connection, as its end does.
async fn behave(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    let mut heard = [0; 4096];
    match manner {
        Manner::Silent => {}
        Manner::Greets(words) => stream.write_all(words).await?,
        Manner::Says(words) => {
            let _ = stream.read(&mut heard).await?;
            stream.write_all(words).await?;
        }
        Manner::Repeats(words) => {
            while stream.read(&mut heard).await? > 0 {
                stream.write_all(words).await?;
            }
        }
        Manner::SaysAndCloses(words) => {
            let _ = stream.read(&mut heard).await?;
            return stream.write_all(words).await;
        }
        Manner::CutsOff { server, after } => return cut_off(stream, server, after).await,
        Manner::Passes { server, fault } => return pass(stream, server, fault).await,
    }
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

async fn cut_off(mut client: TcpStream, server: SocketAddr, mut after: usize) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut asked, mut said) = ([0; 4096], [0; 4096]);
    while after > 0 {
        tokio::select! {
            read = client.read(&mut asked) => match read? {
                0 => return Ok(()),
                read => server.write_all(&asked[..read]).await?,
            },
            read = server.read(&mut said) => {
                let read = read?.min(after);
                client.write_all(&said[..read]).await?;
                after -= read;
            }
        }
    }
    Ok(())
}

async fn pass(mut client: TcpStream, server: SocketAddr, fault: Fault) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut asked, mut said, mut passed) = ([0; 4096], [0; 4096], 0);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read? {
                0 => return Ok(()),
                read => server.write_all(&asked[..read]).await?,
            },
            read = server.read(&mut said) => {
                let read = read?;
                passed += read;
                match fault {
                    _ if read == 0 => return Ok(()),
                    Fault::Latency(time) => tokio::time::sleep(time).await,
                    Fault::Resets(one_in) if fastrand::u32(0..one_in) == 0 => {
                        return socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                    }
                    Fault::Silence(after) if passed > after => {
                        while client.read(&mut asked).await? > 0 {}
                        return Ok(());
                    }
                    Fault::Garbage(after, bytes) if passed > after => client.write_all(bytes).await?,
                    Fault::Resets(_) | Fault::Silence(_) | Fault::Garbage(..) => {}
                }
                client.write_all(&said[..read]).await?;
            }
        }
    }
}
