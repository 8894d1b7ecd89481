//! The conformance suite on every adapter.

use chat_tests::conformance::Adapter;

struct OnTokio;

impl Adapter for OnTokio {
    type Runtime = chat_tokio::Tokio;

    fn runtime() -> chat_tokio::Tokio {
        chat_tokio::Tokio::new()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(future)
    }
}

chat_tests::conformance!(on_tokio, OnTokio);
