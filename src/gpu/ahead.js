// Pipelines compiled beside each other instead of one after the other, before anything waits for them.
//
// wgpu creates pipelines synchronously. A browser then compiles them in order, and the first dispatch waits for all.
// The ones that were compiled here are handed out when wgpu asks for a pipeline of their label.

/** Compiles `kernels`, `{label, code, entry, writes}` each; those that are there already cost nothing. */
export async function compileAhead(device, kernels) {
  const ready = (device.beitReady ??= install(device));
  const uniform = device.createBindGroupLayout({
    entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform", hasDynamicOffset: true } }],
  });
  const compile = async ({ label, code, entry, writes }) => {
    const entries = Array.from(writes, (write, binding) => ({
      binding, visibility: GPUShaderStage.COMPUTE, buffer: { type: write ? "storage" : "read-only-storage" },
    }));
    const storage = device.createBindGroupLayout({ entries });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [storage, uniform] });
    const module = device.createShaderModule({ label, code });
    ready.set(label, await device.createComputePipelineAsync({ label, layout, compute: { module, entryPoint: entry } }));
  };
  await Promise.all(kernels.filter((kernel) => !ready.has(kernel.label)).map(compile));
}

function install(device) {
  const ready = new Map();
  const create = device.createComputePipeline;
  device.createComputePipeline = (descriptor) => ready.get(descriptor.label) ?? create.call(device, descriptor);
  return ready;
}
