//! The WGSL files without a GPU: every kernel that an op may ask for, on any class of adapter, is expanded, validated
//! by naga and compared by reflection with what the host will bind; and a lint of the texts.
#![cfg(feature = "gpu")]

mod shaders {
    mod platforms;
}

use beit::gpu::shaders::{FILES, Library};
use beit::graph::{DType, TensorType};
use beit::ops::{
    Access, Arg, Caps, KernelCall, Kernels, Op, ProductVariant, Tier, UNIFORM_BINDING, UNIFORM_BYTES, samples,
};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Module, ScalarKind, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};

/// WebGPU's guaranteed limits.
const INVOCATIONS: u32 = 256;
const WORKGROUP_BYTES: u32 = 16 << 10;
const STORAGE_BUFFERS: usize = 8;
const GROUPS: u32 = 65_535;
/// Distance of uniform blocks: one must fit.
const BLOCK_BYTES: u32 = 256;

/// The adapters that kernels are written for.
fn adapters() -> Vec<(&'static str, Caps)> {
    let mut all = Vec::new();
    for tier in [Tier::Software, Tier::Hardware] {
        let base = Caps::guaranteed(tier);
        all.push(("guaranteed", base));
        all.push(("64-bit integers", Caps { int64: true, ..base }));
        all.push(("16-bit floats", Caps { f16: true, ..base }));
        for subgroup_size in [4, 8, 32] {
            all.push(("subgroups", Caps { subgroup_size, ..base }));
        }
        for variant in ProductVariant::ALL {
            // The cooperative one needs the feature and half precision.
            let coop = variant == ProductVariant::Coop;
            let caps = Caps { products: [Some(variant); 4], cooperative: coop, half: coop, ..base };
            all.push(("a variant of products", caps));
        }
        for swap in [false, true] {
            let products = [Some(ProductVariant::Strip { rows: 16, swap }); 4];
            all.push(("register tiles of a subgroup", Caps { products, subgroup_size: 32, ..base }));
        }
        all.push(("64-bit integers in a subgroup of eight", Caps { int64: true, subgroup_size: 8, ..base }));
        all.push(("halves", Caps { half: true, ..base }));
        all.push(("halves with 64-bit integers", Caps { half: true, int64: true, subgroup_size: 8, ..base }));
        all.push(("everything", Caps { int64: true, f16: true, subgroup_size: 32, ..base }));
    }
    all
}

/// One dispatch with the sizes of what it binds.
struct Use {
    call: KernelCall,
    /// Bytes behind each binding.
    bytes: Vec<u64>,
    at: String,
}

fn bytes_of(arg: Arg, ins: &[TensorType], outs: &[TensorType], scratch: &[TensorType]) -> u64 {
    match arg {
        Arg::In(i) => ins[i].bytes(),
        Arg::Out(i) => outs[i].bytes(),
        Arg::Scratch(i) => scratch[i].bytes(),
    }
}

/// The types with everything in half precision that may be.
fn halved(
    op: &dyn Op,
    caps: &Caps,
    ins: &[TensorType],
    outs: &[TensorType],
) -> (Vec<TensorType>, Vec<TensorType>) {
    let half = |t: &TensorType, may: bool| match may {
        true => TensorType::new(t.shape(), DType::F16).expect("a type"),
        false => t.clone(),
    };
    let halves = ins.iter().enumerate().map(|(i, t)| half(t, op.reads_half(caps, i, ins))).collect();
    let results = outs.iter().enumerate().map(|(o, t)| half(t, op.writes_half(caps, o, ins))).collect();
    (halves, results)
}

/// Every dispatch of every sample on every adapter.
fn uses() -> Vec<Use> {
    let mut all = Vec::new();
    for sample in samples() {
        let ins: Vec<TensorType> = sample.inputs.iter().map(|i| i.0.clone()).collect();
        let outs = sample.op.infer(&ins).expect("a sample has fitting types");
        for (adapter, caps) in adapters() {
            let (ins, outs) =
                if caps.half { halved(&*sample.op, &caps, &ins, &outs) } else { (ins.clone(), outs.clone()) };
            let Kernels { calls, scratch } =
                sample.op.kernels(&caps, &ins, &outs).expect("a sample has kernels on every adapter");
            for call in calls {
                let bytes = call.bindings.iter().map(|b| bytes_of(b.0, &ins, &outs, &scratch)).collect();
                let at = format!("{:?} on {:?}, {adapter}", sample.op, caps.tier);
                all.push(Use { call, bytes, at });
            }
        }
    }
    all
}

/// A validated kernel.
struct Kernel {
    module: Module,
    info: ModuleInfo,
    entry: usize,
}

fn compile(library: &Library, call: &KernelCall) -> Result<Kernel, String> {
    let source = library.source(call).map_err(|e| e.to_string())?;
    let module = naga::front::wgsl::parse_str(&source.text).map_err(|e| e.emit_to_string(&source.text))?;
    let capabilities = Capabilities::SHADER_INT64
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SUBGROUP
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::COOPERATIVE_MATRIX;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(&source.text))?;
    let entry = module.entry_points.iter().position(|e| e.name == call.entry);
    let entry = entry.ok_or_else(|| format!("no entry point {}", call.entry))?;
    Ok(Kernel { module, info, entry })
}

impl Kernel {
    fn used(&self) -> impl Iterator<Item = &GlobalVariable> {
        let functions = self.info.get_entry_point(self.entry);
        let used = move |h: naga::Handle<GlobalVariable>| !functions[h].is_empty();
        self.module.global_variables.iter().filter(move |(h, _)| used(*h)).map(|(_, v)| v)
    }
    fn size(&self, v: &GlobalVariable) -> u32 {
        self.module.types[v.ty].inner.size(self.module.to_ctx())
    }

    /// Bindings, accesses, uniform block, workgroup.
    fn check(&self, call: &KernelCall) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut uniform = 0;
        let mut shared = 0;
        for v in self.used() {
            let name = v.name.as_deref().unwrap_or("?");
            let at = v.binding.as_ref().map(|b| (b.group, b.binding));
            match (v.space, at) {
                (AddressSpace::Storage { access }, Some((0, binding))) => {
                    let writes = access.contains(StorageAccess::STORE);
                    match call.bindings.get(binding as usize) {
                        None => wrong.push(format!("{name}: binding {binding} is not bound by the host")),
                        Some((_, bound)) if *bound != (if writes { Access::Write } else { Access::Read }) => {
                            wrong.push(format!("{name}: binding {binding} is bound as {bound:?}"));
                        }
                        Some(_) => {}
                    }
                }
                (AddressSpace::Uniform, Some((0, UNIFORM_BINDING))) => {
                    uniform = self.size(v);
                    wrong.extend(self.words(v).err());
                }
                (AddressSpace::Uniform, Some((0, binding))) => match call.bindings.get(binding as usize) {
                    Some((_, Access::Uniform)) if u64::from(self.size(v)) <= UNIFORM_BYTES => {}
                    bound => wrong.push(format!("{name}: uniform {binding} is bound as {bound:?}")),
                },
                (AddressSpace::WorkGroup, None) => shared += self.size(v),
                (AddressSpace::Private, None) => {}
                other => wrong.push(format!("{name}: {other:?} has no place in a kernel")),
            }
        }
        if uniform != 4 * call.params.len() as u32 && uniform != 0 {
            wrong.push(format!(
                "the uniform block has {uniform} bytes, the host writes {} words",
                call.params.len()
            ));
        }
        if uniform > BLOCK_BYTES {
            wrong.push(format!("a uniform block of {uniform} bytes"));
        }
        let size = self.module.entry_points[self.entry].workgroup_size;
        if size.iter().product::<u32>() > INVOCATIONS || size[2] > 64 {
            wrong.push(format!("workgroups of {size:?}"));
        }
        if shared > WORKGROUP_BYTES {
            wrong.push(format!("{shared} bytes of workgroup memory"));
        }
        wrong
    }

    /// The members of the uniform block are words one after the other, as the host writes them.
    fn words(&self, v: &GlobalVariable) -> Result<(), String> {
        let TypeInner::Struct { members, .. } = &self.module.types[v.ty].inner else {
            return Err("the uniform block is no struct".into());
        };
        for (i, m) in members.iter().enumerate() {
            let word = match &self.module.types[m.ty].inner {
                TypeInner::Scalar(s) => {
                    s.width == 4 && matches!(s.kind, ScalarKind::Uint | ScalarKind::Sint | ScalarKind::Float)
                }
                _ => false,
            };
            if !word || m.offset != 4 * i as u32 {
                return Err(format!("member {:?} of the uniform block is not word {i}", m.name));
            }
        }
        Ok(())
    }

    /// Whether the elements of every bound array divide the bytes bound: none is half inside.
    fn check_sizes(&self, bytes: &[u64]) -> Vec<String> {
        let mut wrong = Vec::new();
        for v in self.used() {
            let (Some(b), AddressSpace::Storage { .. }) = (&v.binding, v.space) else { continue };
            let TypeInner::Array { stride, .. } = self.module.types[v.ty].inner else { continue };
            let bound = bytes.get(b.binding as usize).copied().unwrap_or(0);
            if bound % u64::from(stride) != 0 {
                wrong.push(format!("{:?}: elements of {stride} bytes in {bound} bytes", v.name));
            }
        }
        wrong
    }
}

/// Everything that is wrong, once each, with an example.
fn report(failures: BTreeMap<String, String>) {
    let lines: Vec<String> = failures.iter().map(|(what, at)| format!("{what}\n    ({at})")).collect();
    assert!(lines.is_empty(), "{} failures:\n{}", lines.len(), lines[..lines.len().min(40)].join("\n"));
}

#[test]
fn kernels_validate_and_agree_with_the_host() {
    let library = Library::default();
    let mut kernels: BTreeMap<String, Result<Kernel, String>> = BTreeMap::new();
    let mut failures = BTreeMap::new();
    let mut fail = |u: &Use, what: String| {
        failures.entry(format!("{}:{}: {what}", u.call.shader, u.call.entry)).or_insert(u.at.clone());
    };
    for u in &uses() {
        let (call, key) = (&u.call, format!("{} {} {:?}", u.call.shader, u.call.entry, u.call.defines));
        let kernel = kernels.entry(key).or_insert_with(|| compile(&library, call));
        match kernel {
            Err(e) => fail(u, e.clone()),
            Ok(k) => {
                k.check(call).into_iter().for_each(|e| fail(u, e));
                k.check_sizes(&u.bytes).into_iter().for_each(|e| fail(u, e));
            }
        }
        if call.bindings.len() > STORAGE_BUFFERS {
            fail(u, format!("{} storage buffers", call.bindings.len()));
        }
        if call.grid.iter().any(|&g| g == 0 || g > GROUPS) {
            fail(u, format!("a grid of {:?}", call.grid));
        }
        let places: BTreeSet<String> = call.bindings.iter().map(|b| format!("{:?}", b.0)).collect();
        if places.len() != call.bindings.len() {
            fail(u, "one operand bound twice".into());
        }
    }
    report(failures);
    assert!(kernels.len() > 100, "only {} kernels", kernels.len());
}

/// No file is left that nothing uses.
#[test]
fn every_file_is_used() {
    let used: BTreeSet<String> = uses().iter().map(|u| u.call.shader.to_string()).collect();
    let imported: BTreeSet<String> = FILES
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|l| l.trim().strip_prefix("#import ").map(|name| format!("common/{}", name.trim())))
        .collect();
    let unused: Vec<&str> =
        FILES.iter().map(|f| f.0).filter(|f| !used.contains(*f) && !imported.contains(*f)).collect();
    assert!(unused.is_empty(), "files that no op and no import uses: {unused:?}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");
    let on_disk = |dir: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(format!("{folder}{dir}")).expect("shaders/ can be listed");
        let stem = |e: std::fs::DirEntry| Some(e.file_name().to_str()?.strip_suffix(".wgsl")?.to_string());
        entries.filter_map(|e| stem(e.expect("shaders/ can be listed"))).collect()
    };
    let mut files = on_disk("");
    files.extend(on_disk("/common").into_iter().map(|f| format!("common/{f}")));
    let listed: BTreeSet<String> = FILES.iter().map(|f| f.0.to_string()).collect();
    assert_eq!(files, listed, "files on disk (left) and in the table (right)");
}

/// What the lint finds in a line of WGSL.
fn lint(line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    if code.contains("atomic") && code.contains("f32") {
        return Some("a float atomic: its order of additions is not fixed");
    }
    if code.contains("isNan") || code.contains("isInf") || code.contains("0.0 / 0.0") {
        return Some(
            "a test or a constant that compilers may fold away: use the exponent bits (common/finite)",
        );
    }
    for op in ["==", "!="] {
        for (at, _) in code.match_indices(op) {
            if !"=<>!".contains(code[..at].chars().last().unwrap_or(' ')) {
                let left = code[..at].trim_end().rsplit(|c: char| !is_operand(c)).next().unwrap_or_default();
                let right = code[at + 2..].trim_start();
                let right = right.split(|c: char| !is_operand(c)).next().unwrap_or_default();
                if !left.is_empty() && left == right {
                    return Some("a comparison with itself: compilers fold it to a constant");
                }
            }
        }
    }
    None
}

fn is_operand(c: char) -> bool {
    c.is_alphanumeric() || "_.[]".contains(c)
}

#[test]
fn texts_pass_the_lint() {
    let found = FILES.iter().flat_map(|(name, text)| {
        let numbered = text.lines().enumerate();
        numbered.filter_map(move |(i, line)| Some(format!("shaders/{name}.wgsl:{}: {}", i + 1, lint(line)?)))
    });
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Mistakes that the checks above exist for are found.
#[test]
fn mistakes_are_found() {
    for bad in
        ["if x != x {", "let nan = a.b[i] == a.b[i];", "var<storage> s: atomic<f32>;", "let n = 0.0 / 0.0;"]
    {
        assert!(lint(bad).is_some(), "{bad}");
    }
    for good in
        ["if x != y {", "let b = x.x == x.y;", "// x != x", "var<storage> n: atomic<u32>;", "if i <= i2 {"]
    {
        assert_eq!(lint(good), None, "{good}");
    }
    let mut library = Library::default();
    let text = FILES.iter().find(|f| f.0 == "gelu").expect("gelu.wgsl").1.to_string();
    let sample = samples().into_iter().find(|s| s.op.name() == "gelu").expect("samples of gelu");
    let ins: Vec<TensorType> = sample.inputs.iter().map(|i| i.0.clone()).collect();
    let outs = sample.op.infer(&ins).expect("types");
    let kernels = sample.op.kernels(&Caps::guaranteed(Tier::Hardware), &ins, &outs).expect("kernels");
    let call = kernels.calls[0].clone();
    let wrong = |library: &Library, call: &KernelCall| match compile(library, call) {
        Ok(kernel) => kernel.check(call).join("; "),
        Err(e) => e,
    };
    assert_eq!(wrong(&library, &call), "");
    let mut less = call.clone();
    less.bindings.pop();
    assert!(wrong(&library, &less).contains("not bound by the host"));
    let mut swapped = call.clone();
    swapped.bindings.iter_mut().for_each(|b| b.1 = Access::Read);
    assert!(wrong(&library, &swapped).contains("is bound as Read"));
    assert!(wrong(&library, &call.clone().word(1)).contains("uniform block"));
    library.replace("gelu", text.replace("@binding(15)", "@binding(14)"));
    assert!(!wrong(&library, &call).is_empty());
    library.replace("gelu", format!("{text}\nfn broken() -> f32 {{ return 1u; }}"));
    assert!(!wrong(&library, &call).is_empty());
}

/// The shaders of the widgets validate as well.
#[test]
fn shaders_of_the_widgets_validate() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/shaders");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("demo/shaders can be listed") {
        let path = entry.expect("demo/shaders can be listed").path();
        let text = std::fs::read_to_string(&path).expect("a shader can be read");
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{}: {}", path.display(), e.emit_to_string(&text)));
        Validator::new(ValidationFlags::all(), Capabilities::empty())
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}: {}", path.display(), e.emit_to_string(&text)));
        seen += 1;
    }
    assert!(seen > 0);
}
