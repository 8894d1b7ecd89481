//! The conformance suite on every adapter.

use chat_tests::conformance::Adapter;

struct OnTokio;

impl Adapter for OnTokio {
    type Runtime = chat_tokio::Tokio;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(future)
    }
}

struct OnAsyncStd;

impl Adapter for OnAsyncStd {
    type Runtime = chat_async_std::AsyncStd;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        async_std::task::block_on(future)
    }
}

struct OnSmol;

impl Adapter for OnSmol {
    type Runtime = chat_smol::Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}

chat_tests::conformance!(on_tokio, OnTokio);
chat_tests::conformance!(on_async_std, OnAsyncStd);
chat_tests::conformance!(on_smol, OnSmol);

mod pairs {
    use super::{OnAsyncStd, OnSmol, OnTokio};

    chat_tests::pairs!(tokio: OnTokio, async_std: OnAsyncStd, smol: OnSmol);
}
