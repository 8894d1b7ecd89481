//! A client against a server and an application that do anything at all, with any settings: frames that
//! are right with any header and content, damaged ones, plain bytes, before, in and after a handshake,
//! with `sec` and without. It keeps its promises, and every frame that it sends is right.
#![no_main]

use chat_core::Role;
use chat_fuzz::solo::{Input, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Input| run(Role::Client, &input));
