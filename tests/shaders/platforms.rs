//! Every kernel in the languages of the drivers: SPIR-V for Vulkan, MSL for Metal, HLSL for Direct3D. wgpu translates with the
//! same crate on those platforms; that their compilers take the text is not shown.

use crate::{Kernel, Use, compile, report, uses};
use beit::gpu::shaders::Library;
use naga::ShaderStage::Compute;
use naga::back::{hlsl, msl, spv};
use std::collections::BTreeMap;

impl Kernel {
    fn spirv(&self, entry: &str) -> Result<(), String> {
        // Subgroup operations need 1.3, as wgpu chooses by the device.
        let options = spv::Options { lang_version: (1, 3), ..Default::default() };
        let pipeline = spv::PipelineOptions { shader_stage: Compute, entry_point: entry.into() };
        let words = spv::write_vec(&self.module, &self.info, &options, Some(&pipeline));
        words.map(drop).map_err(|e| format!("SPIR-V: {e}"))
    }
    fn metal(&self, entry: &str) -> Result<(), String> {
        // Without a table of binding numbers: those are the host's.
        let options =
            msl::Options { lang_version: (3, 0), fake_missing_bindings: true, ..Default::default() };
        let pipeline =
            msl::PipelineOptions { entry_point: Some((Compute, entry.into())), ..Default::default() };
        let text = msl::write_string(&self.module, &self.info, &options, &pipeline);
        let failed = |e: String| Err(format!("MSL: {e}"));
        match text {
            Err(e) => failed(e.to_string()),
            Ok((_, info)) => info.entry_point_names.iter().try_for_each(|name| match name {
                Ok(_) => Ok(()),
                Err(e) => failed(e.to_string()),
            }),
        }
    }
    fn direct3d(&self, entry: &str) -> Result<(), String> {
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_2,
            fake_missing_bindings: true,
            ..Default::default()
        };
        let pipeline = hlsl::PipelineOptions { entry_point: Some((Compute, entry.into())) };
        let mut text = String::new();
        let failed = |e: String| Err(format!("HLSL: {e}"));
        match hlsl::Writer::new(&mut text, &options, &pipeline).write(&self.module, &self.info, None) {
            Err(e) => failed(e.to_string()),
            Ok(info) => info.entry_point_names.iter().try_for_each(|name| match name {
                Ok(_) => Ok(()),
                Err(e) => failed(e.to_string()),
            }),
        }
    }
}

#[test]
fn kernels_translate_for_every_platform() {
    let library = Library::default();
    let mut kernels: BTreeMap<String, Use> = BTreeMap::new();
    for u in uses() {
        kernels.entry(format!("{} {} {:?}", u.call.shader, u.call.entry, u.call.defines)).or_insert(u);
    }
    let (mut failures, mut written) = (BTreeMap::new(), 0);
    for u in kernels.values() {
        let (shader, entry) = (u.call.shader, u.call.entry);
        let Ok(kernel) = compile(&library, &u.call) else { continue };
        let mut all = vec![kernel.spirv(entry), kernel.metal(entry)];
        if shader == "matmul_coop" {
            // Direct3D has no cooperative matrices, and no adapter there claims to: what cannot be written is an error.
            assert!(kernel.direct3d(entry).is_err(), "cooperative matrices as HLSL");
        } else {
            all.push(kernel.direct3d(entry));
        }
        for wrong in all.into_iter().filter_map(Result::err) {
            failures.entry(format!("{shader}:{entry}: {wrong}")).or_insert(u.at.clone());
        }
        written += 1;
    }
    report(failures);
    assert_eq!(written, kernels.len(), "kernels that do not even validate");
}
