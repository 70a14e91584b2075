//! Draws decoder outputs, where they lie on the device, into textures that egui shows. No pixel comes to the host.

use beit::gpu::{Drawing, Gpu, OutputBuffer};
use bytemuck::{Pod, Zeroable};

/// What egui reads: gamma-encoded bytes.
const FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Rgba8Unorm;

/// Where squares lie in the images of an output; see `shaders/pixels.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
struct Cut {
    offset: u32,
    image: u32,
    row: u32,
    pixel: u32,
    first: u32,
    width: u32,
    height: u32,
    columns: u32,
    start: u32,
    target_width: u32,
    target_height: u32,
    padding: u32,
}

/// A texture that is drawn into now and then.
#[derive(Debug, Clone)]
pub(crate) struct Canvas {
    pub view: wgpu::TextureView,
    /// Width and height in pixels.
    pub size: [u32; 2],
}

/// Squares of a batch of decoded fields and their places on an atlas.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Squares {
    /// First row and column of the square within its field.
    pub first: u32,
    /// Side of a square.
    pub side: u32,
    /// Squares in a row of the atlas.
    pub columns: u32,
    /// Place of the first one.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// The pipeline, once for a device.
#[derive(Debug, Clone)]
pub(crate) struct Painter {
    gpu: Gpu,
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::RenderPipeline,
}

fn entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::VERTEX_FRAGMENT,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

impl Painter {
    pub(crate) fn new(gpu: &Gpu) -> Painter {
        let device = gpu.device();
        let values = wgpu::BindGroupLayoutEntry {
            visibility: wgpu::ShaderStages::FRAGMENT,
            ..entry(0, wgpu::BufferBindingType::Storage { read_only: true })
        };
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("beit pixels"),
            entries: &[values, entry(1, wgpu::BufferBindingType::Uniform)],
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("beit pixels"),
            source: wgpu::ShaderSource::Wgsl(include_str!("../shaders/pixels.wgsl").into()),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("beit pixels"),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("beit pixels"),
            layout: Some(&pipeline_layout),
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corner"),
                compilation_options: Default::default(),
                buffers: &[],
            },
            primitive: wgpu::PrimitiveState {
                topology: wgpu::PrimitiveTopology::TriangleStrip,
                ..Default::default()
            },
            depth_stencil: None,
            multisample: Default::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("pixel"),
                compilation_options: Default::default(),
                targets: &[Some(FORMAT.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        Painter { gpu: gpu.clone(), layout, pipeline }
    }

    /// A black texture of the given width and height.
    pub(crate) fn canvas(&self, label: &str, size: [u32; 2]) -> Canvas {
        let texture = self.gpu.device().create_texture(&wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d { width: size[0], height: size[1], depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: FORMAT,
            usage: wgpu::TextureUsages::TEXTURE_BINDING
                | wgpu::TextureUsages::RENDER_ATTACHMENT
                | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        Canvas { view: texture.create_view(&Default::default()), size }
    }

    /// Draws a decoded picture `[1,H,W,C]` over the whole canvas.
    pub(crate) fn picture(&self, from: &OutputBuffer, canvas: &Canvas) -> Drawing {
        let cut = Cut { width: canvas.size[0], height: canvas.size[1], columns: 1, ..cut_of(from, canvas) };
        self.drawing(from, canvas, cut, 1)
    }

    /// Draws the middle squares of decoded fields `[B,s,s,C]` into their places.
    pub(crate) fn squares(&self, from: &OutputBuffer, canvas: &Canvas, s: Squares) -> Drawing {
        let cut = Cut {
            first: s.first,
            width: s.side,
            height: s.side,
            columns: s.columns,
            start: s.start,
            ..cut_of(from, canvas)
        };
        self.drawing(from, canvas, cut, s.count)
    }

    fn drawing(&self, from: &OutputBuffer, canvas: &Canvas, cut: Cut, squares: u32) -> Drawing {
        let device = self.gpu.device();
        let uniform = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("beit pixels"),
            size: size_of::<Cut>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.gpu.queue().write_buffer(&uniform, 0, bytemuck::bytes_of(&cut));
        let values = wgpu::BufferBinding {
            buffer: &from.buffer,
            offset: 0,
            size: wgpu::BufferSize::new(from.offset + from.ty.bytes()),
        };
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("beit pixels"),
            layout: &self.layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(values) },
                wgpu::BindGroupEntry { binding: 1, resource: uniform.as_entire_binding() },
            ],
        });
        let (pipeline, view) = (self.pipeline.clone(), canvas.view.clone());
        Box::new(move |encoder| {
            let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                label: Some("beit pixels"),
                color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                    view: &view,
                    depth_slice: None,
                    resolve_target: None,
                    // What is not drawn stays: an atlas fills up square by square.
                    ops: wgpu::Operations { load: wgpu::LoadOp::Load, store: wgpu::StoreOp::Store },
                })],
                ..Default::default()
            });
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.draw(0..4, 0..squares);
        })
    }
}

/// Strides of an output `[B,H,W,C]` and the size of the target.
fn cut_of(from: &OutputBuffer, canvas: &Canvas) -> Cut {
    let shape = from.ty.shape();
    let size = |i: usize| shape.get(i).copied().unwrap_or(1) as u32;
    let (height, width, channels) = (size(1), size(2), size(3));
    Cut {
        offset: (from.offset / 4) as u32,
        image: height * width * channels,
        row: width * channels,
        pixel: channels,
        target_width: canvas.size[0],
        target_height: canvas.size[1],
        ..Cut::zeroed()
    }
}
