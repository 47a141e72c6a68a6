use std::collections::BTreeSet;

use super::{Rows, comfyui, layout, origins, place};
use crate::random::RandomCheckpoint;
use crate::schema::{self, Component, TensorSpec};

fn specs(component: Component) -> Vec<TensorSpec> {
    let turbo = RandomCheckpoint::turbo(0);
    match component {
        Component::Transformer => schema::transformer::tensors(&turbo.transformer),
        Component::TextEncoder => schema::text_encoder::tensors(&turbo.text_encoder),
        Component::Vae => schema::vae::tensors(&turbo.vae),
    }
}

#[test]
fn the_inverse_of_every_table_is_the_identity() {
    for component in Component::ALL {
        let rules = comfyui::rules(component);
        let mut stored = BTreeSet::new();
        for spec in specs(component) {
            let placed = place(rules, &spec.name);
            let found = origins(rules, &placed.name);
            let of = placed.rows.map_or(1, |rows| rows.of);
            assert_eq!(found.len(), of, "{}", spec.name);
            let back: Vec<_> = found.iter().filter(|back| back.name == spec.name).collect();
            let [back] = &*back else { panic!("{} comes back as {found:?}", spec.name) };
            assert_eq!((back.rows, back.squeezed), (placed.rows, placed.squeezed), "{}", spec.name);
            assert!(stored.insert((placed.name, placed.rows.map(|rows| rows.part))), "{} is there twice", spec.name);
        }
        // Nothing of the file is missing: every tensor of it is made of canonical ones, each used once.
        let tensors = layout(rules, &specs(component));
        let used: usize = tensors.iter().map(|tensor| tensor.made_of.len()).sum();
        assert_eq!(used, specs(component).len());
    }
}

#[test]
fn fused_rows_and_reversed_levels_are_found() {
    let rules = comfyui::rules(Component::Transformer);
    let placed = place(rules, "layers.7.attention.to_v.weight");
    assert_eq!(placed.name, "layers.7.attention.qkv.weight");
    assert_eq!(placed.rows, Some(Rows { part: 2, of: 3 }));
    let rules = comfyui::rules(Component::Vae);
    let placed = place(rules, "decoder.up_blocks.1.resnets.0.conv_shortcut.bias");
    assert_eq!(placed.name, "decoder.up.2.block.0.nin_shortcut.bias");
    assert!(place(rules, "encoder.mid_block.attentions.0.to_k.weight").squeezed);
}

#[test]
fn words_are_never_cut_and_foreign_numbers_stay() {
    let rules = comfyui::rules(Component::Transformer);
    // `all_x_embedder.` contains `x_embedder.`, which stands only for the beginning of a name.
    for name in ["all_x_embedder.2-1.weight", "y.x_embedder.weight", "my_final_layer.linear.weight"] {
        assert_eq!(origins(rules, name)[0].name, name);
    }
    let rules = comfyui::rules(Component::Vae);
    for name in ["decoder.up.4.block.0.x", "decoder.up.x.y", "decoder.up.99999999999999999999.x"] {
        assert!(!origins(rules, name)[0].name.starts_with("decoder.up_blocks."), "{name}");
    }
}
