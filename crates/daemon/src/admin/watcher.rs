//! The daemon's end of `siplatch trace`: what the signalling loop tells goes
//! out as lines of JSON until the other end has gone.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use proxy::Filter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedSender, channel};

use crate::edge::{News, Order, Watch};
use crate::trace::{Entry, Told};

/// Messages that a watcher may lag behind.
const LAG: usize = 512;

/// A place among the watchers, given back when dropped.
struct Place<'a> {
    id: u64,
    orders: &'a UnboundedSender<Order>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Refused only when the loop has ended.
        let _ = self.orders.send(Order::Unwatch(self.id));
    }
}

/// Serves one watcher.
pub(super) async fn serve(stream: UnixStream, target: &str, orders: &UnboundedSender<Order>) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (mut reader, mut writer) = stream.into_split();
    let mut say = async |told: &Told| -> io::Result<()> {
        let mut line = serde_json::to_vec(told)?;
        line.push(b'\n');
        writer.write_all(&line).await
    };
    let Some(filter) = Filter::new(target) else {
        let why = "what is to be traced? Name a Call-ID, a user, a [[phone]] or an IP address";
        return say(&Told::Refused(why.to_owned())).await;
    };
    let (news, mut heard) = channel(LAG);
    let place = Place { id: NEXT.fetch_add(1, Ordering::Relaxed), orders };
    let _refused = orders.send(Order::Watch(Box::new(Watch { id: place.id, filter, news })));
    let gone = async {
        // Nothing more is said from there; its end is what matters.
        let mut room = [0; 64];
        while reader.read(&mut room).await.is_ok_and(|length| length > 0) {}
    };
    let tell = async {
        while let Some(news) = heard.recv().await {
            let told = match news {
                News::Watching => Told::Watching(target.to_owned()),
                News::Full => {
                    let why = format!("{} others are watching, which is the most", proxy::trace::WATCHERS);
                    return say(&Told::Refused(why)).await;
                }
                News::Lost(lost) => Told::Lost(lost),
                News::Message(at, traced) => Told::Message(Box::new(Entry::new(at, &traced))),
            };
            say(&told).await?;
        }
        Ok(())
    };
    tokio::select! {
        () = gone => Ok(()),
        told = tell => told,
    }
}
