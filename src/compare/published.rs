//! The published numbers that the rows of a comparison stand beside (beit-spec §6.7, §8, §9): base-size networks, 224
//! pixels where nothing else is said. Other networks, other data, other budgets.

use super::Route;
use serde::Serialize;

/// Published numbers of a method, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Published {
    /// CIFAR-100, fine-tuned, top-1.
    pub cifar100: Option<f64>,
    /// ImageNet-1K, fine-tuned, top-1.
    pub imagenet: Option<f64>,
    /// ADE20K, SETR-PUP, mIoU.
    pub ade20k: Option<f64>,
    /// ImageNet-1K, linear probe, top-1.
    pub linear: Option<f64>,
    /// ImageNet-1K, nearest neighbours, top-1.
    pub knn: Option<f64>,
    /// What must be known about them.
    pub remark: &'static str,
}

/// The published numbers of a route.
pub fn published(route: Route) -> Published {
    let none = Published::default();
    match route {
        Route::Scratch => Published {
            cifar100: Some(48.5),
            imagenet: Some(81.8),
            remark: "CIFAR-100: ViT at 384 pixels, as the MoCo v3 paper has it; ImageNet: DeiT-B",
            ..none
        },
        Route::Supervised => Published {
            cifar100: Some(90.8),
            ade20k: Some(45.3),
            remark: "pre-trained on the labels of ImageNet-1K (CIFAR-100: DeiT)",
            ..none
        },
        Route::Dino => Published {
            cifar100: Some(91.7),
            imagenet: Some(82.8),
            ade20k: Some(44.1),
            linear: Some(78.2),
            knn: Some(76.1),
            remark: "",
        },
        Route::MocoV3 => Published {
            cifar100: Some(87.1),
            imagenet: Some(83.2),
            linear: Some(76.7),
            remark: "CIFAR-100: 90.5 in its own repository",
            ..none
        },
        Route::MaskedPatchColour => Published {
            imagenet: Some(79.9),
            remark: "pre-trained on 300 million pictures, 384 pixels",
            ..none
        },
        Route::Pixels => Published {
            imagenet: Some(81.0),
            ade20k: Some(41.4),
            remark: "300 epochs; BEiT after as many: 82.9 and 44.7",
            ..none
        },
        Route::Beit => Published {
            cifar100: Some(90.1),
            imagenet: Some(83.2),
            ade20k: Some(45.6),
            linear: Some(56.7),
            remark: "800 epochs",
            ..none
        },
        Route::BeitIntermediate => Published {
            cifar100: Some(91.8),
            ade20k: Some(47.7),
            remark: "fine-tuned on the labels of ImageNet-1K in between",
            ..none
        },
    }
}
