//! From a session's output to a texture of the window's device: on the device itself, or, where the networks are computed on
//! the processor, by way of a buffer that is uploaded.

use beit::Result;
use beit::gpu::{Drawing, Gpu, OutputBuffer};
use beit::graph::TensorType;
use beit::session::{HostData, PlanId, Session};

use crate::painter::Painter;

/// Draws what sessions computed.
pub(super) struct Drawer {
    gpu: Gpu,
    pub painter: Painter,
}

impl Drawer {
    pub(super) fn new(gpu: &Gpu) -> Drawer {
        Drawer { gpu: gpu.clone(), painter: Painter::new(gpu) }
    }

    /// An output of a plan's last run, `images` (their number, height, width), as a buffer of the window's device.
    pub(super) fn output(
        &self,
        session: &mut dyn Session,
        plan: PlanId,
        output: &str,
        images: [usize; 3],
    ) -> Result<OutputBuffer> {
        if let Some(on_device) = session.as_gpu() {
            return on_device.output(plan, output);
        }
        let values = HostData::f32(session.read(plan, output)?);
        let buffer = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("beit pixels"),
            size: 4 * values.len().max(1) as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.gpu.queue().write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
        let channels = values.len() / images.iter().product::<usize>().max(1);
        let ty = TensorType::real(&[images[0], images[1], images[2], channels])?;
        Ok(OutputBuffer { buffer, offset: 0, ty })
    }

    /// Records commands after what the session was asked for so far.
    pub(super) fn draw(&self, session: &mut dyn Session, drawing: Drawing) {
        if let Some(on_device) = session.as_gpu() {
            return on_device.draw(drawing);
        }
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        drawing(&mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
    }
}
