//! Kernels compiled beside each other before a session loads their plans: in a browser, where loading cannot use threads.

use super::Gpu;
use crate::error::Result;
use crate::plan::Plan;

impl Gpu {
    /// Compiles the kernels of plans side by side and waits for them without blocking. Sessions of this device, now and
    /// later, then load these plans at once.
    ///
    /// In a browser only; elsewhere sessions compile on threads, and this does nothing. The JavaScript object of the device
    /// gets a `createComputePipeline` of its own for it, which hands out these kernels and else does what it did.
    ///
    /// # Errors
    /// If a kernel does not compile or the device was lost.
    pub async fn compile_ahead(&self, plans: &[&Plan]) -> Result<()> {
        self.check()?;
        #[cfg(target_arch = "wasm32")]
        browser::compile(self, plans).await?;
        #[cfg(not(target_arch = "wasm32"))]
        let _ = plans;
        self.check()
    }
}

#[cfg(target_arch = "wasm32")]
mod browser {
    use super::super::pipelines::{Key, label};
    use super::super::shaders::Library;
    use super::{Gpu, Plan, Result};
    use crate::error::Error;
    use crate::ops::Access;
    use js_sys::{Array, Object, Reflect};
    use std::collections::BTreeSet;
    use wasm_bindgen::prelude::*;

    #[wasm_bindgen(module = "/src/gpu/ahead.js")]
    extern "C" {
        #[wasm_bindgen(catch, js_name = compileAhead)]
        async fn compile_ahead(device: &JsValue, kernels: &Array) -> std::result::Result<JsValue, JsValue>;
    }

    /// WebGPU's name of a binding of this access.
    fn binding_type(access: Access) -> &'static str {
        match access {
            Access::Read => "read-only-storage",
            Access::Write => "storage",
            Access::Uniform => "uniform",
        }
    }

    pub(super) async fn compile(gpu: &Gpu, plans: &[&Plan]) -> Result<()> {
        let Some(device) = gpu.device.as_webgpu() else { return Ok(()) };
        let calls = plans.iter().flat_map(|p| &p.steps).flat_map(|s| &s.calls);
        let keys: BTreeSet<Key> = calls.map(Key::of).collect();
        let (library, kernels) = (Library::default(), Array::new());
        for key in &keys {
            let source = library.expand(key.shader, key.entry, &key.defines)?;
            let kernel = Object::new();
            let types: Array = key.accesses.iter().map(|a| JsValue::from(binding_type(*a))).collect();
            let parts: [(&str, JsValue); 4] = [
                ("label", label(key, &source.text).into()),
                ("code", source.text.as_str().into()),
                ("entry", key.entry.into()),
                ("types", types.into()),
            ];
            for (name, value) in parts {
                // Setting a property of a plain object cannot fail.
                let _ = Reflect::set(&kernel, &name.into(), &value);
            }
            kernels.push(&kernel);
        }
        let failed = |e: JsValue| {
            let text = e.dyn_ref::<js_sys::Error>().map(|e| String::from(e.message()));
            Error::device("kernels do not compile").got(text.unwrap_or_else(|| format!("{e:?}")))
        };
        compile_ahead(device.as_ref(), &kernels).await.map(|_| ()).map_err(failed)
    }
}
