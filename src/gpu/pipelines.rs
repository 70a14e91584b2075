//! Compute pipelines by (shader, entry, defines, accesses), compiled on several threads, replaced when a file changes.

use super::caps::Gpu;
use super::shaders::{Library, Source};
use crate::error::{Error, Result};
use crate::ops::{Access, KernelCall, UNIFORM_BINDING};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What distinguishes two pipelines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub shader: &'static str,
    pub entry: &'static str,
    pub defines: Vec<(&'static str, u32)>,
    /// How the kernel touches each buffer.
    pub accesses: Vec<Access>,
}

impl Key {
    pub(super) fn of(call: &KernelCall) -> Self {
        Key {
            shader: call.shader,
            entry: call.entry,
            defines: call.defines.clone(),
            accesses: call.bindings.iter().map(|b| b.1).collect(),
        }
    }
}

/// Bind-group and pipeline layout of one list of accesses: buffers and the uniform block.
struct Layout {
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// Pipelines and layouts of one device. Pipelines keep their number for ever.
pub(super) struct Pipelines {
    library: Library,
    layouts: BTreeMap<Vec<Access>, Layout>,
    numbers: BTreeMap<Key, usize>,
    /// By number, as the texts that they were made of.
    pipelines: Arc<Vec<wgpu::ComputePipeline>>,
    sources: Vec<String>,
}

fn layout_entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

impl Pipelines {
    pub(super) fn new() -> Self {
        Pipelines {
            library: Library::default(),
            layouts: BTreeMap::new(),
            numbers: BTreeMap::new(),
            pipelines: Arc::default(),
            sources: vec![],
        }
    }
    /// Layout of the bind group of a pipeline of [`Pipelines::prepare`].
    pub(super) fn layout(&self, key: &Key) -> Option<&wgpu::BindGroupLayout> {
        self.layouts.get(&key.accesses).map(|l| &l.group)
    }
    pub(super) fn number(&self, key: &Key) -> Option<usize> {
        self.numbers.get(key).copied()
    }
    /// Length of the text of a pipeline.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn length(&self, number: usize) -> usize {
        self.sources[number].len()
    }
    /// All pipelines, by number.
    pub(super) fn all(&self) -> Arc<Vec<wgpu::ComputePipeline>> {
        self.pipelines.clone()
    }

    fn add_layout(&mut self, gpu: &Gpu, accesses: &[Access]) {
        if self.layouts.contains_key(accesses) {
            return;
        }
        let kind = |access: &Access| match access {
            Access::Uniform => wgpu::BufferBindingType::Uniform,
            Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
            Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
        };
        let mut entries: Vec<_> = (0..).zip(accesses).map(|(i, a)| layout_entry(i, kind(a))).collect();
        entries.push(layout_entry(UNIFORM_BINDING, wgpu::BufferBindingType::Uniform));
        let group = gpu
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&group)],
            immediate_size: 0,
        });
        self.layouts.insert(accesses.to_vec(), Layout { group, pipeline });
    }

    /// Compiles the pipelines that are not there yet.
    pub(super) fn prepare(&mut self, gpu: &Gpu, keys: impl Iterator<Item = Key>) -> Result<()> {
        let missing: BTreeSet<Key> = keys.filter(|k| !self.numbers.contains_key(k)).collect();
        let missing: Vec<Key> = missing.into_iter().collect();
        missing.iter().for_each(|k| self.add_layout(gpu, &k.accesses));
        let built = in_parallel(missing.len(), |i| {
            let key = &missing[i];
            let source = self.library.expand(key.shader, key.entry, &key.defines)?;
            let layout = &self.layouts[&key.accesses].pipeline;
            Ok((build(gpu, layout, key, &source)?, source.text))
        });
        for (key, built) in missing.into_iter().zip(built) {
            let (pipeline, source) = built?;
            Arc::make_mut(&mut self.pipelines).push(pipeline);
            self.sources.push(source);
            self.numbers.insert(key, self.sources.len() - 1);
        }
        Ok(())
    }

    /// Rebuilds the pipelines whose WGSL changed on disk and returns how many; after an error the old ones go on.
    pub(super) fn reload_changed(&mut self, gpu: &Gpu) -> Result<usize> {
        if !self.library.refresh() {
            return Ok(0);
        }
        let mut fresh = Vec::new();
        for (key, &number) in &self.numbers {
            let source = self.library.expand(key.shader, key.entry, &key.defines)?;
            if source.text != self.sources[number] {
                let pipeline = build(gpu, &self.layouts[&key.accesses].pipeline, key, &source)?;
                fresh.push((number, pipeline, source.text));
            }
        }
        let count = fresh.len();
        for (number, pipeline, source) in fresh {
            Arc::make_mut(&mut self.pipelines)[number] = pipeline;
            self.sources[number] = source;
        }
        Ok(count)
    }

    /// The texts, for experiments and tests.
    pub(super) fn library_mut(&mut self) -> &mut Library {
        &mut self.library
    }
}

/// `work(0..n)` on as many threads as the machine has, results in order; one after the other in a browser.
fn in_parallel<T: Send>(n: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Vec<Result<T>> {
    let threads = if cfg!(target_arch = "wasm32") {
        1
    } else {
        std::thread::available_parallelism().map_or(1, usize::from)
    };
    if threads.min(n) <= 1 {
        return (0..n).map(work).collect();
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(n) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= n {
                        return;
                    }
                    let result = work(i);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(i, result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Name of a kernel for people. In a browser it also says which text and accesses it was made of, because pipelines that
/// were compiled ahead are found by it.
pub(super) fn label(key: &Key, text: &str) -> String {
    let mut label = format!("{}:{}", key.shader, key.entry);
    if cfg!(target_arch = "wasm32") {
        use sha2::{Digest, Sha256};
        let hash = Sha256::digest(text.as_bytes());
        label.push(' ');
        label.extend(key.accesses.iter().map(letter));
        label.push(' ');
        label.extend(hash.iter().take(8).map(|b| format!("{b:02x}")));
    }
    label
}

fn letter(access: &Access) -> char {
    match access {
        Access::Read => 'r',
        Access::Write => 'w',
        Access::Uniform => 'u',
    }
}

fn build(
    gpu: &Gpu,
    layout: &wgpu::PipelineLayout,
    key: &Key,
    source: &Source,
) -> Result<wgpu::ComputePipeline> {
    let label = label(key, &source.text);
    let create_module = || {
        gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(source.text.as_str().into()),
        })
    };
    let create_pipeline = |module: &wgpu::ShaderModule| {
        gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(layout),
            module,
            entry_point: Some(key.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: cfg!(target_arch = "wasm32"),
                ..Default::default()
            },
            cache: None,
        })
    };
    let (module, error) = scoped(gpu, create_module);
    if let Some(e) = error {
        return Err(located(&module, source)
            .unwrap_or_else(|| Error::device("shader does not compile").at(label).got(e)));
    }
    let (pipeline, error) = scoped(gpu, || create_pipeline(&module));
    match error {
        Some(e) => Err(Error::device("kernel does not fit its shader").at(label).got(e)),
        None => Ok(pipeline),
    }
}

/// Runs `create` and returns the error it caused; in a browser such errors reach the lost flag instead.
pub(super) fn scoped<T>(gpu: &Gpu, create: impl FnOnce() -> T) -> (T, Option<String>) {
    #[cfg(target_arch = "wasm32")]
    return {
        let _ = gpu;
        (create(), None)
    };
    #[cfg(not(target_arch = "wasm32"))]
    {
        let filters =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|f| gpu.device.push_error_scope(f));
        let made = create();
        // Scopes close in the reverse order of opening.
        let errors = scopes.into_iter().rev().filter_map(|s| pollster::block_on(s.pop()));
        let error = errors.map(|e| e.to_string()).last();
        (made, error)
    }
}

/// The compiler's first message with its place.
fn located(module: &wgpu::ShaderModule, source: &Source) -> Option<Error> {
    #[cfg(target_arch = "wasm32")]
    return {
        let _ = (module, source);
        None
    };
    #[cfg(not(target_arch = "wasm32"))]
    {
        let info = pollster::block_on(module.get_compilation_info());
        let message = info.messages.into_iter().find(|m| m.location.is_some())?;
        let at = message.location?;
        Some(source.error(at.line_number as usize, at.line_position as usize, message.message.trim()))
    }
}
