//! The widgets in a program that opens its window and its device itself, with wgpu, winit and egui's renderer:
//! `cargo run --release -p beit-egui --example embed_wgpu`.

use std::sync::Arc;

use beit_egui::egui_wgpu::{Renderer, RendererOptions, ScreenDescriptor};
use beit_egui::{Beit, MaskEditor, ReconstructionView, device_descriptor, egui, wgpu};
use winit::application::ApplicationHandler;
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::window::{Window, WindowId};

type Failure = Box<dyn std::error::Error>;

struct Running {
    window: Arc<Window>,
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    device: wgpu::Device,
    queue: wgpu::Queue,
    renderer: Renderer,
    input: egui_winit::State,
    beit: Beit,
}

impl Running {
    async fn open(window: Window) -> Result<Running, Failure> {
        let window = Arc::new(window);
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let surface = instance.create_surface(window.clone())?;
        let options =
            wgpu::RequestAdapterOptions { compatible_surface: Some(&surface), ..Default::default() };
        let adapter = instance.request_adapter(&options).await?;
        let (device, queue) = adapter.request_device(&device_descriptor(&adapter)).await?;
        let size = window.inner_size();
        let config = surface
            .get_default_config(&adapter, size.width.max(1), size.height.max(1))
            .ok_or("this adapter cannot draw into this window")?;
        surface.configure(&device, &config);
        let context = egui::Context::default();
        let side = Some(device.limits().max_texture_dimension_2d as usize);
        let input = egui_winit::State::new(context, egui::ViewportId::ROOT, &*window, None, None, side);
        let renderer = Renderer::new(&device, config.format, RendererOptions::default());
        let beit = Beit::from_wgpu(&adapter, &device, &queue);
        Ok(Running { window, surface, config, device, queue, renderer, input, beit })
    }

    fn draw(&mut self) {
        // The pictures of the networks are textures of this renderer.
        self.beit.register(&mut self.renderer);
        let input = self.input.take_egui_input(&self.window);
        let context = self.input.egui_ctx().clone();
        let mut output = context.run_ui(input, |ui| {
            egui::CentralPanel::default().show(ui, |ui| {
                ui.columns(2, |columns| {
                    MaskEditor::new(&mut self.beit).show(&mut columns[0]);
                    ReconstructionView::new(&mut self.beit).show(&mut columns[1]);
                });
            });
        });
        self.input.handle_platform_output(&self.window, std::mem::take(&mut output.platform_output));
        self.paint(&context, output);
        self.window.request_redraw();
    }

    fn paint(&mut self, context: &egui::Context, mut output: egui::FullOutput) {
        let changed = output.textures_delta.set.iter();
        for (id, delta) in changed.flat_map(|(id, all)| all.iter().map(move |d| (id, d))) {
            self.renderer.update_texture(&self.device, &self.queue, *id, delta);
        }
        let freed = output.textures_delta.free.clone();
        output.textures_delta.clear();
        let frame = match self.surface.get_current_texture() {
            wgpu::CurrentSurfaceTexture::Success(frame) | wgpu::CurrentSurfaceTexture::Suboptimal(frame) => {
                frame
            }
            _ => return self.surface.configure(&self.device, &self.config),
        };
        let size_in_pixels = [self.config.width, self.config.height];
        let screen = ScreenDescriptor { size_in_pixels, pixels_per_point: output.pixels_per_point };
        let shapes = context.tessellate(output.shapes, output.pixels_per_point);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.renderer.update_buffers(&self.device, &self.queue, &mut encoder, &shapes, &screen);
        let view = frame.texture.create_view(&Default::default());
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations::default(),
            })],
            ..Default::default()
        });
        self.renderer.render(&mut pass.forget_lifetime(), &shapes, &screen);
        self.queue.submit([encoder.finish()]);
        self.queue.present(frame);
        freed.iter().for_each(|id| self.renderer.free_texture(id));
    }
}

#[derive(Default)]
struct Program(Option<Running>);

impl ApplicationHandler for Program {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        let title = Window::default_attributes().with_title("embed_wgpu");
        let opened = events.create_window(title).map_err(Failure::from);
        match opened.and_then(|window| pollster::block_on(Running::open(window))) {
            Ok(running) => self.0 = Some(running),
            Err(e) => {
                eprintln!("no window: {e}");
                events.exit();
            }
        }
    }
    fn window_event(&mut self, events: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(running) = &mut self.0 else { return };
        let _ = running.input.on_window_event(&running.window, &event);
        match event {
            WindowEvent::CloseRequested => events.exit(),
            WindowEvent::Resized(size) => {
                (running.config.width, running.config.height) = (size.width.max(1), size.height.max(1));
                running.surface.configure(&running.device, &running.config);
            }
            WindowEvent::RedrawRequested => running.draw(),
            _ => {}
        }
    }
}

fn main() -> Result<(), Failure> {
    Ok(EventLoop::new()?.run_app(&mut Program::default())?)
}
