//! Which device a run uses: a GPU if there is a real one, otherwise the built-in CPU kernels.

use crate::cpu::CpuSession;
#[cfg(any(not(feature = "gpu"), target_arch = "wasm32"))]
use crate::error::Error;
use crate::error::Result;
use crate::ops::{KernelChoices, Precision, Tier};
use crate::session::Session;

/// A device that sessions can be made on.
// a process holds one or two of them
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
pub enum Device {
    /// The built-in CPU kernels.
    Cpu,
    /// An adapter.
    #[cfg(feature = "gpu")]
    Gpu(crate::gpu::Gpu),
}

/// A chosen device and, if there is something to say about the choice, one line that says it.
pub struct Choice {
    /// The device.
    pub device: Device,
    /// Why it was chosen, where that is not obvious.
    pub note: Option<String>,
}

/// What is said when nothing was asked for and there is no real GPU.
const FALLBACK: &str = "no GPU driver found: training on the built-in CPU kernels";

impl Choice {
    /// The choice with activations in a precision; a device without it stays with f32 and says so.
    ///
    /// # Errors
    /// As [`Device::in_precision`].
    pub fn in_precision(self, precision: Precision) -> Result<Choice> {
        Ok(match self.device.clone().in_precision(precision)? {
            Some(device) => Choice { device, ..self },
            None => {
                let why = "this device has no half precision: computing in f32";
                let note = self.note.map_or_else(|| why.to_string(), |note| format!("{note}\n{why}"));
                Choice { device: self.device, note: Some(note) }
            }
        })
    }
}

impl Device {
    /// Chooses: `cpu`, an adapter whose name contains `name`, or without a name a real GPU, else the CPU.
    ///
    /// # Errors
    /// If the named adapter is not there; the message lists what was found.
    #[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
    pub fn choose(name: Option<&str>) -> Result<Choice> {
        use crate::gpu::{Gpu, list_adapters, tune};
        match name {
            Some(n) if n.eq_ignore_ascii_case("cpu") => Ok(Choice { device: Device::Cpu, note: None }),
            Some(n) => {
                let gpu = tune::tuned(Gpu::create(Some(n))?)?;
                Ok(Choice { device: Device::Gpu(gpu), note: None })
            }
            None => {
                let adapters = list_adapters();
                if let Some(real) = adapters.iter().find(|a| !a.software) {
                    let gpu = tune::tuned(Gpu::create(Some(&real.name))?)?;
                    return Ok(Choice { device: Device::Gpu(gpu), note: None });
                }
                let note = match adapters.first() {
                    None => format!(
                        "{FALLBACK} (the shaders need a Vulkan, Metal or DirectX 12 driver; see setup.sh)"
                    ),
                    Some(a) => format!(
                        "no GPU found, only the software driver {0:?}: training on the built-in CPU kernels \
                         (--adapter llvmpipe runs the shaders on it, slower)",
                        a.name
                    ),
                };
                Ok(Choice { device: Device::Cpu, note: Some(note) })
            }
        }
    }

    /// Chooses `cpu`; this build has no GPU support, or (in a browser) opens adapters only with `Gpu::create_async`.
    ///
    /// # Errors
    /// If an adapter is named.
    #[cfg(any(not(feature = "gpu"), target_arch = "wasm32"))]
    pub fn choose(name: Option<&str>) -> Result<Choice> {
        match name {
            Some(n) if !n.eq_ignore_ascii_case("cpu") => Err(Error::config("no such adapter")
                .at("--adapter")
                .expected("cpu (this build has no GPU support)")
                .got(n)),
            asked => Ok(Choice { device: Device::Cpu, note: asked.is_none().then(|| FALLBACK.to_string()) }),
        }
    }

    /// The device with activations in a precision; `None` if it cannot.
    ///
    /// # Errors
    /// If its kernels have to be timed for the precision and the device fails.
    pub fn in_precision(self, precision: Precision) -> Result<Option<Device>> {
        match (self, precision) {
            (device, Precision::F32) => Ok(Some(device)),
            (Device::Cpu, Precision::F16) => Ok(None),
            #[cfg(feature = "gpu")]
            (Device::Gpu(gpu), Precision::F16) => {
                let Some(gpu) = gpu.with_half() else { return Ok(None) };
                #[cfg(not(target_arch = "wasm32"))]
                let gpu = crate::gpu::tune::tuned(gpu)?;
                Ok(Some(Device::Gpu(gpu)))
            }
        }
    }

    /// What was chosen for its kernels; `None` on the CPU, which has no choice.
    pub fn kernel_choices(&self) -> Option<KernelChoices> {
        let caps = self.caps();
        let (products, fusions) = (caps.products, caps.fusions);
        (caps.tier != Tier::Cpu).then(|| KernelChoices { adapter: self.describe(), products, fusions })
    }

    /// The device with choices made earlier, if it is the one that they were made for.
    pub fn with_kernel_choices(self, kept: &KernelChoices) -> Device {
        #[cfg(not(feature = "gpu"))]
        let _ = kept;
        match self {
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) if gpu.info().name == kept.adapter => {
                Device::Gpu(gpu.with_products(kept.products).with_fusions(kept.fusions))
            }
            other => other,
        }
    }

    /// What plans for this device are compiled with.
    pub fn caps(&self) -> crate::ops::Caps {
        match self {
            Device::Cpu => crate::ops::Caps::cpu(),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu.caps(),
        }
    }

    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu => "Built-in CPU device".into(),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu.info().name.clone(),
        }
    }

    /// A new, empty session.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn session(&self) -> Result<Box<dyn Session>> {
        match self {
            Device::Cpu => Ok(Box::new(CpuSession::<f32>::new())),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => Ok(Box::new(crate::gpu::GpuSession::new(gpu.clone()))),
        }
    }
}
