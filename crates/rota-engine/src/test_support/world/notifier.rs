use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rota_core::fault::Fault;

use crate::ports::{Notice, Notifier};
use crate::test_support::Wire;

/// A channel that keeps what it was given. Clones are one channel.
#[derive(Clone)]
pub struct FakeNotifier {
    wire: Wire,
    channel: String,
    messages: Arc<Mutex<Vec<Vec<Notice>>>>,
}

impl FakeNotifier {
    #[must_use]
    pub fn new(wire: Wire, channel: &str) -> Self {
        Self { wire, channel: channel.to_owned(), messages: Arc::default() }
    }

    /// Every message so far, each with its notices; one may come twice.
    #[must_use]
    pub fn messages(&self) -> Vec<Vec<Notice>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Notifier for FakeNotifier {
    fn channel(&self) -> &str {
        &self.channel
    }

    async fn deliver(&self, notices: &[Notice]) -> Result<(), Fault> {
        let (messages, notices) = (Arc::clone(&self.messages), notices.to_vec());
        let system = format!("notifier:{}", self.channel);
        let detail = format!("{} notices", notices.len());
        self.wire
            .call(&system, "deliver", detail, move || {
                messages.lock().unwrap_or_else(PoisonError::into_inner).push(notices);
                Ok::<(), Fault>(())
            })
            .await
    }
}
