//! A task beside the loop: asks somebody again and again, and tells the loop what has changed.

use std::future::Future;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

/// Whom it asks, and what it says.
#[derive(Debug)]
pub(super) struct Beside<Whom, News> {
    whom: Whom,
    /// What counts while nobody watches.
    unwatched: News,
    task: Option<AbortHandle>,
    /// Where it runs.
    runtime: Handle,
    telling: UnboundedSender<News>,
    told: UnboundedReceiver<News>,
}

impl<Whom: Clone + Default + PartialEq, News: Copy> Beside<Whom, News> {
    /// Asks nobody yet; tasks will run there.
    pub(super) fn new(unwatched: News, runtime: Handle) -> Self {
        let (telling, told) = unbounded_channel();
        Self { whom: Whom::default(), unwatched, task: None, runtime, telling, told }
    }

    /// Asks these from here on, the default (nobody) to stop. Others than before begin anew, and until they
    /// have told something what is usual counts.
    pub(super) fn ask<F>(&mut self, whom: Whom, task: impl FnOnce(Whom, Telling<News>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if whom == self.whom {
            return;
        }
        self.stop();
        self.whom = whom.clone();
        if whom != Whom::default() {
            let telling = Telling { to: self.telling.clone(), unwatched: self.unwatched };
            self.task = Some(self.runtime.spawn(task(whom, telling)).abort_handle());
        }
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Unheard only when the loop has ended.
            let _unheard = self.telling.send(self.unwatched);
        }
    }

    /// What has changed.
    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>) -> Option<News> {
        let Poll::Ready(told) = self.told.poll_recv(cx) else { return None };
        told
    }
}

impl<Whom, News> Drop for Beside<Whom, News> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// The task's end.
#[derive(Debug)]
pub(super) struct Telling<News> {
    to: UnboundedSender<News>,
    unwatched: News,
}

impl<News: Copy> Telling<News> {
    /// This counts from now on.
    pub(super) fn tell(&self, news: News) {
        // Unheard only when the loop has ended.
        let _unheard = self.to.send(news);
    }

    /// What nobody watches any more may not be true any more.
    pub(super) fn forget(&self) {
        self.tell(self.unwatched);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    #[tokio::test]
    async fn what_nobody_watches_any_more_is_forgotten() {
        let mut beside: Beside<Vec<u8>, u8> = Beside::new(7, Handle::current());
        beside.ask(vec![1], |whom, telling| async move {
            telling.tell(whom[0]);
            pending().await
        });
        assert_eq!(poll_fn(|cx| beside.poll_news(cx).map_or(Poll::Pending, Poll::Ready)).await, 1);
        beside.ask(vec![1], |_, _| async { panic!("it is asked already") });
        beside.ask(Vec::new(), |_, _| async { panic!("there is nobody to ask") });
        assert_eq!(poll_fn(|cx| Poll::Ready(beside.poll_news(cx))).await, Some(7));
        beside.ask(Vec::new(), |_, _| async { panic!("there is nobody to ask") });
        assert_eq!(poll_fn(|cx| Poll::Ready(beside.poll_news(cx))).await, None, "said once");
    }
}
