//! Adapters and devices: listing, choosing by name, limits, classes.

use super::lost::Lost;
use crate::error::{Error, Result};
use crate::ops::{Caps, Tier};
use std::sync::Arc;

/// An adapter as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Name given by the driver.
    pub name: String,
    /// Class: discrete, integrated, virtual, software, other.
    pub class: &'static str,
    /// Interface, e.g. `vulkan`.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// Whether it computes on the CPU.
    pub software: bool,
}

impl AdapterInfo {
    fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let class = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        };
        AdapterInfo {
            name: info.name,
            class,
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            software: info.device_type == wgpu::DeviceType::Cpu,
        }
    }
    /// Best first.
    fn rank(&self) -> usize {
        ["discrete", "integrated", "virtual", "other", "software"]
            .iter()
            .position(|c| *c == self.class)
            .unwrap_or(5)
    }
}

impl std::fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.class, self.backend)
    }
}

/// An open device. Clones share it.
#[derive(Debug, Clone)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) lost: Arc<Lost>,
    info: AdapterInfo,
    caps: Caps,
    /// Whether shaders can read and write pairs of halves as words.
    halves: bool,
}

fn instance() -> wgpu::Instance {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends = wgpu::Backends::PRIMARY;
    desc.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(desc)
}

/// Adapters with compute shaders, best first.
async fn adapters() -> Vec<wgpu::Adapter> {
    let instance = instance();
    let mut found: Vec<wgpu::Adapter> = if cfg!(target_arch = "wasm32") {
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        instance.request_adapter(&options).await.into_iter().collect()
    } else {
        instance.enumerate_adapters(wgpu::Backends::PRIMARY).await
    };
    found.retain(|a| {
        let flags = a.get_downlevel_capabilities().flags;
        flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    });
    found.sort_by_key(|a| AdapterInfo::of(a).rank());
    found
}

/// The optional features of an adapter that kernels use where they are on.
pub fn useful_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    let useful = wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SHADER_INT64
        | wgpu::Features::SUBGROUP;
    adapter.features() & useful
}

/// The adapters of this machine, best first.
#[cfg(not(target_arch = "wasm32"))]
pub fn list_adapters() -> Vec<AdapterInfo> {
    pollster::block_on(list_adapters_async())
}

/// The adapters of this machine, best first; a browser shows one at most.
pub async fn list_adapters_async() -> Vec<AdapterInfo> {
    adapters().await.iter().map(AdapterInfo::of).collect()
}

impl Gpu {
    /// Opens the adapter whose name contains `name` (any case), or the best one.
    ///
    /// # Errors
    /// If there is none (the message lists what was found) or it cannot be opened.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn create(name: Option<&str>) -> Result<Gpu> {
        pollster::block_on(Self::create_async(name))
    }
    /// As [`Gpu::create`], held down to the limits that WebGPU guarantees and without optional features.
    ///
    /// # Errors
    /// As [`Gpu::create`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn create_with_default_limits(name: Option<&str>) -> Result<Gpu> {
        pollster::block_on(Self::open(name, true))
    }
    /// [`Gpu::create`] where nothing may block: in a browser.
    ///
    /// # Errors
    /// As [`Gpu::create`].
    pub async fn create_async(name: Option<&str>) -> Result<Gpu> {
        Self::open(name, false).await
    }

    async fn open(name: Option<&str>, guaranteed_only: bool) -> Result<Gpu> {
        let adapters = adapters().await;
        let adapter = choose(&adapters, name)?;
        let (features, limits) = if guaranteed_only {
            (wgpu::Features::empty(), wgpu::Limits::default())
        } else {
            (useful_features(adapter), adapter.limits())
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("beit"),
            required_features: features,
            required_limits: limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| {
            Error::device("the adapter could not be opened")
                .at(AdapterInfo::of(adapter).name)
                .got(e.to_string())
        })?;
        let gpu = Self::from_wgpu(adapter, device, queue)?;
        let lost = gpu.lost.clone();
        gpu.device.set_device_lost_callback(move |reason, text| lost.set(&format!("{reason:?}: {text}")));
        let lost = gpu.lost.clone();
        gpu.device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| lost.set(&e.to_string())));
        Ok(gpu)
    }

    /// Uses the device of a host program. No global handler of it is touched and it is never destroyed.
    ///
    /// # Errors
    /// If the device has no compute shaders.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Result<Gpu> {
        let (limits, features) = (device.limits(), device.features());
        let info = AdapterInfo::of(adapter);
        if limits.max_compute_invocations_per_workgroup < 256
            || limits.max_storage_buffers_per_shader_stage < 8
        {
            return Err(Error::device("the device has no usable compute shaders")
                .at(info.name)
                .expected("256 invocations per workgroup and 8 storage buffers")
                .got(format!(
                    "{} and {}",
                    limits.max_compute_invocations_per_workgroup, limits.max_storage_buffers_per_shader_stage
                )));
        }
        let raw = adapter.get_info();
        let subgroups =
            features.contains(wgpu::Features::SUBGROUP) && raw.subgroup_min_size == raw.subgroup_max_size;
        let caps = Caps {
            tier: if info.software { Tier::Software } else { Tier::Hardware },
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            subgroup_size: if subgroups { raw.subgroup_min_size } else { 0 },
            f16: features.contains(wgpu::Features::SHADER_F16),
            int64: features.contains(wgpu::Features::SHADER_INT64),
            cooperative: cooperative(adapter, features) && subgroups && raw.subgroup_min_size == 32,
            half: false,
            products: [None; 4],
            fusions: crate::ops::Fusions::of(info.software),
        };
        let flags = adapter.get_downlevel_capabilities().flags;
        let halves = caps.f16 || flags.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32);
        Ok(Gpu { device, queue, lost: Arc::default(), info, caps, halves })
    }

    /// The adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }
    /// What plans for it must be compiled with.
    pub fn caps(&self) -> Caps {
        self.caps
    }
    /// The same device with other choices between variants of matrix products.
    pub fn with_products(mut self, products: crate::ops::Choices) -> Gpu {
        self.caps.products = products;
        self
    }
    /// The same device with activations in half precision; `None` if its shaders cannot read halves.
    pub fn with_half(mut self) -> Option<Gpu> {
        self.caps.half = true;
        self.halves.then_some(self)
    }
    /// The same device with other choices of what is joined to matrix products.
    pub fn with_fusions(mut self, fusions: crate::ops::Fusions) -> Gpu {
        self.caps.fusions = fusions;
        self
    }
    /// Whether it computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.info.software
    }
    /// The device, for hosts that share it.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }
    /// The queue, for hosts that share it.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }
    /// An error if the device was lost.
    ///
    /// # Errors
    /// If the device was lost, failed or passed a time limit.
    pub fn check(&self) -> Result<()> {
        self.lost.check()
    }
}

/// Whether a device multiplies f16 matrices of 16 × 16 with f32 sums. wgpu makes asking for the feature unsafe, so that only
/// a host program's device has it (`Gpu::from_wgpu`).
fn cooperative(adapter: &wgpu::Adapter, features: wgpu::Features) -> bool {
    use wgpu::CooperativeScalarType::{F16, F32};
    let fits = |c: &wgpu::CooperativeMatrixProperties| {
        (c.m_size, c.n_size, c.k_size) == (16, 16, 16) && c.ab_type == F16 && c.cr_type == F32
    };
    let wanted = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    features.contains(wanted) && adapter.cooperative_matrix_properties().iter().any(fits)
}

fn choose<'a>(adapters: &'a [wgpu::Adapter], name: Option<&str>) -> Result<&'a wgpu::Adapter> {
    let wanted = name.unwrap_or_default().to_lowercase();
    let found = adapters.iter().find(|a| AdapterInfo::of(a).name.to_lowercase().contains(&wanted));
    found.ok_or_else(|| {
        let names: Vec<String> = adapters.iter().map(|a| AdapterInfo::of(a).to_string()).collect();
        let e = Error::device(if name.is_some() { "no such adapter" } else { "no adapter found" });
        let e = if let Some(name) = name { e.at(name) } else { e };
        match names.is_empty() {
            true => e
                .got("no driver with compute shaders")
                .hint("install a Vulkan driver, or use the built-in device with --adapter cpu"),
            false => e.expected(names.join(", ")).hint("or --adapter cpu for the built-in device"),
        }
    })
}
