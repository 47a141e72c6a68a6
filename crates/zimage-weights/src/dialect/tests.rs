use std::collections::BTreeSet;

use super::{Rows, Rule, VaeSizes, comfyui, layout, llama, mflux, mlx, origins, place};
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

const SIZES: VaeSizes = VaeSizes { levels: 4, layers: 2 };

/// Every dialect's table of a part, by its name.
fn tables(component: Component) -> Vec<(&'static str, Vec<Rule>)> {
    let mut tables = vec![
        ("comfyui", comfyui::rules(component, SIZES)),
        ("mlx", mlx::rules(component, SIZES, true)),
        ("mflux", mflux::rules(component)),
    ];
    if component == Component::TextEncoder {
        tables.push(("llama", llama::text_encoder()));
    }
    tables
}

#[test]
fn the_inverse_of_every_table_is_the_identity() {
    for component in Component::ALL {
        for (dialect, rules) in tables(component) {
            let mut stored = BTreeSet::new();
            for spec in specs(component) {
                let placed = place(&rules, &spec.name);
                let found = origins(&rules, &placed.name);
                let of = placed.rows.map_or(1, |rows| rows.of);
                assert_eq!(found.len(), of, "{dialect} {}", spec.name);
                let back: Vec<_> = found.iter().filter(|back| back.name == spec.name).collect();
                let [back] = &*back else { panic!("{dialect}: {} comes back as {found:?}", spec.name) };
                let marks = |place: &super::Place| (place.rows, place.squeezed, place.transposed);
                assert_eq!(marks(back), marks(&placed), "{dialect} {}", spec.name);
                let new = stored.insert((placed.name, placed.rows.map(|rows| rows.part)));
                assert!(new, "{dialect}: {} is there twice", spec.name);
            }
            // Nothing of the file is missing: every tensor of it is made of canonical ones, each used once.
            let tensors = layout(&rules, &specs(component));
            let used: usize = tensors.iter().map(|tensor| tensor.made_of.len()).sum();
            assert_eq!(used, specs(component).len(), "{dialect}");
        }
    }
}

#[test]
fn every_dialect_has_as_many_tensors_as_its_files() {
    let count = |component, dialect| {
        let found = tables(component).into_iter().find(|(name, _)| *name == dialect);
        layout(&found.expect("a table").1, &specs(component)).len()
    };
    use Component::{TextEncoder, Transformer, Vae};
    assert_eq!((count(Transformer, "comfyui"), count(Vae, "comfyui")), (453, 244));
    // The original application's files lack two of these, the pad tokens.
    assert_eq!((count(Transformer, "mlx") - mlx::DROPPED.len(), count(Vae, "mlx")), (519, 244));
    assert_eq!((count(Transformer, "mflux"), count(TextEncoder, "llama")), (521, 398));
}

#[test]
fn names_of_mlx_programs_are_theirs() {
    let name = |rules: &[Rule], canonical: &str| place(rules, canonical).name;
    let transformer = mlx::rules(Component::Transformer, SIZES, true);
    assert_eq!(name(&transformer, "layers.3.adaLN_modulation.0.bias"), "layers.3.adaLN_modulation.bias");
    let last = name(&transformer, "all_final_layer.2-1.adaLN_modulation.1.weight");
    assert_eq!(last, "final_layer.adaLN_modulation.weight");
    assert_eq!(name(&transformer, "t_embedder.mlp.2.weight"), "t_embedder.mlp.layers.2.weight");
    assert_eq!(name(&transformer, "layers.0.attention.to_out.0.weight"), "layers.0.attention.to_out.weight");
    let vae = mlx::rules(Component::Vae, SIZES, true);
    let down = name(&vae, "encoder.down_blocks.1.downsamplers.0.conv.weight");
    assert_eq!(down, "encoder.down_blocks.1.layers.2.conv.weight");
    assert_eq!(name(&vae, "decoder.up_blocks.0.upsamplers.0.conv.bias"), "decoder.up_blocks.0.layers.3.conv.bias");
    assert_eq!(name(&vae, "decoder.up_blocks.0.resnets.2.conv1.bias"), "decoder.up_blocks.0.layers.2.conv1.bias");
    assert_eq!(name(&vae, "decoder.mid_block.resnets.1.conv1.bias"), "decoder.mid_block.layers.2.conv1.bias");
    assert_eq!(name(&vae, "decoder.mid_block.attentions.0.to_out.0.bias"), "decoder.mid_block.layers.1.to_out.bias");
    let mflux = mflux::rules(Component::Transformer);
    assert_eq!(name(&mflux, "t_embedder.mlp.2.bias"), "t_embedder.linear2.bias");
}

#[test]
fn fused_rows_and_reversed_levels_are_found() {
    let rules = comfyui::rules(Component::Transformer, SIZES);
    let placed = place(&rules, "layers.7.attention.to_v.weight");
    assert_eq!(placed.name, "layers.7.attention.qkv.weight");
    assert_eq!(placed.rows, Some(Rows { part: 2, of: 3 }));
    let rules = comfyui::rules(Component::Vae, SIZES);
    let placed = place(&rules, "decoder.up_blocks.1.resnets.0.conv_shortcut.bias");
    assert_eq!(placed.name, "decoder.up.2.block.0.nin_shortcut.bias");
    assert!(place(&rules, "encoder.mid_block.attentions.0.to_k.weight").squeezed);
    // A VAE of five levels counts from another end.
    let rules = comfyui::rules(Component::Vae, VaeSizes { levels: 5, layers: 2 });
    assert_eq!(place(&rules, "decoder.up_blocks.1.resnets.0.conv1.bias").name, "decoder.up.3.block.0.conv1.bias");
}

#[test]
fn words_are_never_cut_and_foreign_numbers_stay() {
    let rules = comfyui::rules(Component::Transformer, SIZES);
    // `all_x_embedder.` contains `x_embedder.`, which stands only for the beginning of a name.
    for name in ["all_x_embedder.2-1.weight", "y.x_embedder.weight", "my_final_layer.linear.weight"] {
        assert_eq!(origins(&rules, name)[0].name, name);
    }
    let rules = comfyui::rules(Component::Vae, SIZES);
    for name in ["decoder.up.4.block.0.x", "decoder.up.x.y", "decoder.up.99999999999999999999.x"] {
        assert!(!origins(&rules, name)[0].name.starts_with("decoder.up_blocks."), "{name}");
    }
}
