//! Kiln's engine in a browser tab: a thin layer over the `kiln` library whose arguments and results are
//! JavaScript values. It runs in a Web Worker (`page/worker/`), never on the page's own thread; `protocol.rs`
//! declares the types that are passed between the two.

mod catalogue;
mod device;
mod files;
mod kernels;
mod problem;
mod protocol;
mod run;
mod spec;

use js_sys::Function;
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

thread_local! {
    static PANIC_LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Calls `listener` with the message of a panic, after which this module can no longer be used.
#[wasm_bindgen]
pub fn on_panic(listener: Function) {
    PANIC_LISTENER.with(|slot| *slot.borrow_mut() = Some(listener));
    std::panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        PANIC_LISTENER.with(|slot| {
            if let Some(listener) = slot.borrow().as_ref() {
                // What the listener throws has nowhere to go: the module ends here anyway.
                let _ = listener.call1(&JsValue::NULL, &message.as_str().into());
            }
        });
    }));
}
