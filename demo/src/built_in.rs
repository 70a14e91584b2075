//! The model that comes with the crate, trained by its own `pretrain`; see `docs/web.md` for the command.

use beit::Result;
use beit::train::{Pair, PairFiles};

const FILES: PairFiles<'static> = PairFiles {
    model: include_bytes!("../../web/model/model.safetensors"),
    config: include_bytes!("../../web/model/config.json"),
    tokenizer: include_bytes!("../../web/model/tokenizer.safetensors"),
    sizes: include_bytes!("../../web/model/tokenizer.json"),
};

/// The built-in transformer and tokenizer; pages hold at most `page_bytes`.
///
/// # Errors
/// If the crate was built with damaged files.
pub fn pair(page_bytes: u64) -> Result<Pair> {
    Pair::read(&FILES, page_bytes)
}
