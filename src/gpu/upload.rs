//! Writes to buffers. One thread copies at a fraction of what memory gives, so large inputs are copied by several.

/// Bytes for which another thread is woken: it takes some ten microseconds to come.
#[cfg(not(target_arch = "wasm32"))]
const SHARE: usize = 512 << 10;
/// Threads that copy; more do not make memory faster.
#[cfg(not(target_arch = "wasm32"))]
const MOST: usize = 4;

/// Writes a range of a buffer before what is submitted next.
#[cfg(target_arch = "wasm32")]
pub(super) fn write(queue: &wgpu::Queue, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
    queue.write_buffer(buffer, offset, bytes);
}

/// Writes a range of a buffer before what is submitted next.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn write(queue: &wgpu::Queue, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
    let threads = (bytes.len() / SHARE).min(MOST).min(rayon::current_num_threads());
    let Some(size) = wgpu::BufferSize::new(bytes.len() as u64).filter(|_| threads > 1) else {
        return queue.write_buffer(buffer, offset, bytes);
    };
    // Without a view the queue has told the device's error handler why.
    let Some(mut view) = queue.write_buffer_with(buffer, offset, size) else { return };
    let (shares, mut rest) = view.slice(..).into_chunks::<SHARE>();
    let parts = bytes.chunks_exact(SHARE);
    rest.copy_from_slice(parts.remainder());
    rayon::in_place_scope(|scope| {
        let copy = |to: wgpu::WriteOnly<'_, [u8; SHARE]>, part| {
            wgpu::WriteOnly::<[u8]>::from(to).copy_from_slice(part);
        };
        let mut own = Vec::new();
        for (i, (to, part)) in shares.into_iter().zip(parts).enumerate() {
            match i % threads {
                0 => own.push((to, part)),
                _ => scope.spawn(move |_| copy(to, part)),
            }
        }
        own.into_iter().for_each(|(to, part)| copy(to, part));
    });
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::gpu::Gpu;

    #[test]
    fn every_byte_arrives_whatever_the_size() {
        if crate::gpu::list_adapters().is_empty() {
            eprintln!("NO GPU ADAPTER: writes were not tested");
            return;
        }
        let gpu = Gpu::create(std::env::var("BEIT_ADAPTER").ok().as_deref()).unwrap();
        for size in [4, 2 * SHARE - 4, 2 * SHARE, 3 * SHARE + 12, 5 * SHARE + 4] {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 / 3) as u8).collect();
            let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: size as u64 + 8,
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            });
            write(&gpu.queue, &buffer, 4, &bytes);
            gpu.queue.submit([]);
            buffer.slice(..).map_async(wgpu::MapMode::Read, |_| {});
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let read = buffer.slice(..).get_mapped_range().unwrap();
            assert!(read[4..4 + size] == bytes, "{size} bytes");
            assert!(read[..4] == [0; 4] && read[4 + size..] == [0; 4], "{size} bytes: more was written");
        }
        gpu.check().unwrap();
    }
}
