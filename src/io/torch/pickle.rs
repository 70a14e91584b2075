//! A pickle machine for tensors: a closed list of opcodes, plain values, no calls.
//!
//! Values live in an arena and refer to each other by number, so that shared values stay shared and a short file
//! cannot unfold into a large one.

use super::known::{Known, known};
use super::{bad, shown};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Largest pickle that is read, in bytes: the values beside the numbers, optimiser state included.
pub(super) const PICKLE_BYTES: usize = 16 << 20;
/// Most values in one file.
const NODES: usize = 1 << 20;

/// Number of a value.
pub(super) type NodeId = u32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    None,
    Bool,
    Int(i64),
    Float,
    /// An integer of more than 8 bytes, little-endian.
    Long(Vec<u8>),
    Text(String),
    Bytes,
    Tuple(Vec<NodeId>),
    List(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    Global(Known),
    /// Key of a storage, its type, and its number of elements.
    Storage {
        key: String,
        kind: Known,
        elements: usize,
    },
    /// A view of the storage node `storage`.
    Tensor {
        storage: NodeId,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    },
    /// Known, and of no use here.
    Inert,
}

impl Node {
    /// What it is, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Node::None => "None",
            Node::Bool => "a truth value",
            Node::Int(_) | Node::Long(_) => "a whole number",
            Node::Float => "a number",
            Node::Text(_) | Node::Bytes => "text",
            Node::Tuple(_) => "a tuple",
            Node::List(_) => "a list",
            Node::Dict(_) => "a dict",
            Node::Global(_) => "a class",
            Node::Storage { .. } => "a storage",
            Node::Tensor { .. } => "a tensor",
            Node::Inert => "settings of a run",
        }
    }
}

/// All values of a file.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<Node>);

impl Values {
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.0.get(id as usize)
    }
    /// The text of a value, if it is text.
    pub fn text(&self, id: NodeId) -> Option<&str> {
        match self.get(id) {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }
    fn size(&self, id: NodeId) -> Option<usize> {
        match self.get(id) {
            Some(Node::Int(n)) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
    fn sizes(&self, id: NodeId) -> Option<Vec<usize>> {
        match self.get(id) {
            Some(Node::Tuple(ids) | Node::List(ids)) => ids.iter().map(|id| self.size(*id)).collect(),
            _ => None,
        }
    }
    fn add(&mut self, node: Node) -> Result<NodeId> {
        if self.0.len() >= NODES {
            return Err(bad("too many values in a pickle").expected(format!("at most {NODES}")));
        }
        self.0.push(node);
        Ok((self.0.len() - 1) as NodeId)
    }
}

/// Loads the one pickle that fills `bytes`.
pub(super) fn load(bytes: &[u8]) -> Result<(Values, NodeId)> {
    let mut values = Values::default();
    let mut input = Input { bytes, at: 0 };
    let top = load_next(&mut input, &mut values)?;
    if input.at != bytes.len() {
        return Err(bad("bytes behind the end of the pickle").at(format!("byte {}", input.at)));
    }
    Ok((values, top))
}

/// Bytes and how far they were read.
pub(super) struct Input<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Input<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let part = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let part = part.ok_or_else(|| {
            bad("truncated pickle").at(format!("byte {}", self.at)).expected(format!("{n} more bytes"))
        })?;
        self.at += n;
        Ok(part)
    }
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }
    fn byte(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    fn length(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }
    fn long_length(&mut self) -> Result<usize> {
        let n = u64::from_le_bytes(self.array()?);
        usize::try_from(n).map_err(|_| bad("length out of range in a pickle").got(n.to_string()))
    }
    fn line(&mut self) -> Result<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().take(256).position(|&b| b == b'\n');
        let end =
            end.ok_or_else(|| bad("a name without an end in a pickle").at(format!("byte {}", self.at)))?;
        let text = utf8(self.take(end)?)?;
        self.at += 1;
        Ok(text)
    }
}

fn utf8(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(bad("text that is not UTF-8 in a pickle")),
    }
}

/// Runs the machine over the next pickle of the input and returns its value.
pub(super) fn load_next(input: &mut Input<'_>, values: &mut Values) -> Result<NodeId> {
    let mut machine = Machine { values, stack: vec![], marks: vec![], memo: BTreeMap::new() };
    let end = input.at.saturating_add(PICKLE_BYTES);
    loop {
        let (at, op) = (input.at, input.byte()?);
        if at > end {
            return Err(bad("pickle too long").expected(format!("at most {PICKLE_BYTES} bytes")));
        }
        if op == b'.' {
            return machine.pop();
        }
        machine
            .step(op, input)
            .map_err(|e| if e.at.is_none() { e.at(format!("byte {at} of the pickle")) } else { e })?;
    }
}

struct Machine<'v> {
    values: &'v mut Values,
    stack: Vec<NodeId>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: BTreeMap<u32, NodeId>,
}

impl Machine<'_> {
    fn step(&mut self, op: u8, input: &mut Input<'_>) -> Result<()> {
        match op {
            0x80 => match input.byte()? {
                2..=5 => Ok(()),
                other => Err(bad("another version of pickle").expected("2 to 5").got(other.to_string())),
            },
            0x95 => input.take(8).map(|_| ()), // FRAME
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(|_| ()),
            b'q' => input.byte().and_then(|i| self.put(u32::from(i))),
            b'r' => input.array().and_then(|i| self.put(u32::from_le_bytes(i))),
            0x94 => self.put(self.memo.len() as u32),
            b'h' => input.byte().and_then(|i| self.recall(u32::from(i))),
            b'j' => input.array().and_then(|i| self.recall(u32::from_le_bytes(i))),
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | b'G' | 0x8a | b'X' | 0x8c | 0x8d | b'U' | b'T'
            | b'C' | b'B' | 0x8e => {
                let node = scalar(op, input)?;
                self.push(node)
            }
            b'}' => self.push(Node::Dict(vec![])),
            b']' => self.push(Node::List(vec![])),
            b')' => self.push(Node::Tuple(vec![])),
            0x85..=0x87 => self.tuple(usize::from(op - 0x84)),
            b't' => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items))
            }
            b'a' => self.pop().and_then(|item| self.extend(vec![item])),
            b'e' => self.pop_mark().and_then(|items| self.extend(items)),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(vec![key, value])
            }
            b'u' => self.pop_mark().and_then(|items| self.insert(items)),
            b'c' => {
                let (module, name) = (input.line()?, input.line()?);
                self.global(&module, &name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.values.text(module), self.values.text(name)) {
                    (Some(module), Some(name)) => {
                        let (module, name) = (module.to_owned(), name.to_owned());
                        self.global(&module, &name)
                    }
                    _ => Err(bad("a class without a name in a pickle")),
                }
            }
            b'Q' => self.storage(),
            b'R' => self.reduce(),
            0x81 => self.new_object(),
            b'b' => self.build(),
            other => Err(bad("an opcode that a file of tensors does not need")
                .expected("tensors, numbers, text, lists and dicts")
                .got(format!("opcode {:#04x} ({})", other, shown(&char::from(other).to_string())))
                .hint("nothing in a weight file is executed: save a plain state dict, or safetensors")),
        }
    }

    fn push(&mut self, node: Node) -> Result<()> {
        let id = self.values.add(node)?;
        self.stack.push(id);
        Ok(())
    }
    fn pop(&mut self) -> Result<NodeId> {
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return Err(bad("a pickle that takes more than it has"));
        }
        self.stack.pop().ok_or_else(|| bad("a pickle that takes more than it has"))
    }
    fn pop_mark(&mut self) -> Result<Vec<NodeId>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        mark.map(|mark| self.stack.split_off(mark)).ok_or_else(|| bad("a pickle that takes more than it has"))
    }
    fn put(&mut self, slot: u32) -> Result<()> {
        let top = self.stack.last().copied().ok_or_else(|| bad("a pickle that keeps nothing"))?;
        self.memo.insert(slot, top);
        Ok(())
    }
    fn recall(&mut self, slot: u32) -> Result<()> {
        let id = self
            .memo
            .get(&slot)
            .copied()
            .ok_or_else(|| bad("a pickle that recalls what it never kept").got(format!("memo {slot}")))?;
        self.stack.push(id);
        Ok(())
    }
    fn tuple(&mut self, n: usize) -> Result<()> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        self.push(Node::Tuple(items))
    }
    /// Appends to the list on top.
    fn extend(&mut self, items: Vec<NodeId>) -> Result<()> {
        match self.top()? {
            Node::List(list) => {
                list.extend(items);
                Ok(())
            }
            Node::Inert => Ok(()),
            other => Err(bad("a pickle that appends to what is no list").got(other.name())),
        }
    }
    /// Inserts keys and values, in turn, into the dict on top.
    fn insert(&mut self, items: Vec<NodeId>) -> Result<()> {
        let odd = items.len() % 2 == 1;
        match self.top()? {
            Node::Dict(dict) if !odd => {
                dict.extend(items.as_chunks::<2>().0.iter().map(|[k, v]| (*k, *v)));
                Ok(())
            }
            Node::Inert => Ok(()),
            other => Err(bad("a pickle that inserts into what is no dict").got(other.name())),
        }
    }
    fn top(&mut self) -> Result<&mut Node> {
        let id = self.stack.last().copied();
        id.and_then(|id| self.values.0.get_mut(id as usize))
            .ok_or_else(|| bad("a pickle with an empty stack"))
    }
    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let found = known(module, name).ok_or_else(|| unknown_class(module, name))?;
        self.push(Node::Global(found))
    }

    /// A persistent id: `("storage", type, key, device, elements)`; older files add a view, which must be empty.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let odd = || bad("a reference in a pickle that is no storage");
        let Some(Node::Tuple(parts)) = self.values.get(id) else { return Err(odd()) };
        let (&[tag, kind, key, _, elements], rest) = parts.split_first_chunk::<5>().ok_or_else(odd)?;
        let whole = rest.iter().all(|&r| self.values.get(r) == Some(&Node::None));
        let kind = match self.values.get(kind) {
            Some(Node::Global(kind @ Known::Storage(_))) => *kind,
            _ => return Err(odd()),
        };
        match (self.values.text(tag), self.values.text(key), self.values.size(elements)) {
            (Some("storage"), Some(key), Some(elements)) if whole => {
                let key = key.to_owned();
                self.push(Node::Storage { key, kind, elements })
            }
            _ => Err(odd()),
        }
    }

    /// A call in the pickle: of the known names, only the plain value that it stands for is made.
    fn reduce(&mut self) -> Result<()> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let Some(Node::Tuple(args)) = self.values.get(args).cloned() else {
            return Err(bad("a call without arguments in a pickle"));
        };
        match self.values.get(callee) {
            Some(Node::Global(Known::OrderedDict)) if args.is_empty() => self.push(Node::Dict(vec![])),
            Some(Node::Global(Known::RebuildTensor)) => self.tensor(&args),
            Some(Node::Global(Known::RebuildParameter | Known::Size)) => match args.first() {
                Some(&first) => {
                    self.stack.push(first);
                    Ok(())
                }
                None => Err(bad("a call without arguments in a pickle")),
            },
            Some(Node::Global(Known::Inert)) => self.push(Node::Inert),
            other => Err(bad("a call in a pickle").got(other.map_or("nothing", Node::name))),
        }
    }

    fn tensor(&mut self, args: &[NodeId]) -> Result<()> {
        let odd = || bad("a tensor with odd arguments in a pickle");
        let (&[storage, offset, shape, strides], _) = args.split_first_chunk::<4>().ok_or_else(odd)?;
        if !matches!(self.values.get(storage), Some(Node::Storage { .. })) {
            return Err(odd());
        }
        let v = &*self.values;
        match (v.size(offset), v.sizes(shape), v.sizes(strides)) {
            (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
                self.push(Node::Tensor { storage, offset, shape, strides })
            }
            _ => Err(odd()),
        }
    }

    fn new_object(&mut self) -> Result<()> {
        let (_, class) = (self.pop()?, self.pop()?);
        match self.values.get(class) {
            Some(Node::Global(Known::Inert)) => self.push(Node::Inert),
            Some(Node::Global(Known::OrderedDict)) => self.push(Node::Dict(vec![])),
            other => Err(bad("an object in a pickle").got(other.map_or("nothing", Node::name))),
        }
    }

    /// Attributes of an object. Those of a state dict (versions of its modules) and of settings are left aside.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        match self.top()? {
            Node::Dict(_) | Node::Inert => Ok(()),
            other => Err(bad("attributes set in a pickle").got(other.name())),
        }
    }
}

/// The value of an opcode that stands for itself.
fn scalar(op: u8, input: &mut Input<'_>) -> Result<Node> {
    Ok(match op {
        b'N' => Node::None,
        0x88 | 0x89 => Node::Bool,
        b'J' => Node::Int(i64::from(i32::from_le_bytes(input.array()?))),
        b'K' => Node::Int(i64::from(input.byte()?)),
        b'M' => Node::Int(i64::from(u16::from_le_bytes(input.array()?))),
        b'G' => {
            input.take(8)?;
            Node::Float
        }
        0x8a => {
            let n = usize::from(input.byte()?);
            long(input.take(n)?)
        }
        b'X' => {
            let n = input.length()?;
            Node::Text(utf8(input.take(n)?)?)
        }
        0x8c | b'U' => {
            let n = usize::from(input.byte()?);
            Node::Text(utf8(input.take(n)?)?)
        }
        b'T' => {
            let n = input.length()?;
            Node::Text(utf8(input.take(n)?)?)
        }
        0x8d => {
            let n = input.long_length()?;
            Node::Text(utf8(input.take(n)?)?)
        }
        b'C' => {
            let n = usize::from(input.byte()?);
            input.take(n)?;
            Node::Bytes
        }
        b'B' => {
            let n = input.length()?;
            input.take(n)?;
            Node::Bytes
        }
        _ => {
            let n = input.long_length()?;
            input.take(n)?;
            Node::Bytes
        }
    })
}

/// A little-endian two's complement number of any length.
fn long(bytes: &[u8]) -> Node {
    if bytes.len() > 8 {
        return Node::Long(bytes.to_vec());
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all.iter_mut().zip(bytes).for_each(|(a, b)| *a = *b);
    Node::Int(i64::from_le_bytes(all))
}

fn unknown_class(module: &str, name: &str) -> Error {
    bad("a class that a file of tensors does not need")
        .expected("tensors, numbers, text, lists and dicts")
        .got(format!("class {}.{}", shown(module), shown(name)))
        .hint("nothing in a weight file is executed: save a plain state dict, or safetensors")
}
