// Pipelines compiled beside each other instead of one after the other, before anything waits for them.
//
// wgpu creates pipelines synchronously. A browser then compiles them in order, and the first dispatch waits for all.
// The ones that were compiled here are handed out when wgpu asks for a pipeline of their label.

/** As in ops/kernel.rs. */
const UNIFORM_BINDING = 15;

/** Compiles `kernels`, `{label, code, entry, types}` each; those that are there already cost nothing. */
export async function compileAhead(device, kernels) {
  const ready = (device.beitReady ??= install(device));
  const compile = async ({ label, code, entry, types }) => {
    const layoutEntry = (binding, type) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } });
    const entries = Array.from(types, (type, i) => layoutEntry(i, type));
    entries.push(layoutEntry(UNIFORM_BINDING, "uniform"));
    const group = device.createBindGroupLayout({ entries });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [group] });
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
