//! Which files of which repositories make a model: an allow-list per variant, never a whole repository.
//!
//! The originals hold each model twice (single files and a diffusers folder) and ask for a licence to be
//! accepted; the ungated copies hold the same files. Names and licences were read in public pages of these
//! repositories; `verify` and the digests that a hub states say whether the files are what they were.

/// A model that can be fetched.
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    /// Its key in the registry.
    pub key: &'static str,
    /// What its weights may be used for.
    pub licence: Licence,
    /// Choices of files; the first is taken where nothing is said.
    pub variants: &'static [Variant],
}

/// A licence.
#[derive(Debug, PartialEq, Eq)]
pub struct Licence {
    /// Its name.
    pub name: &'static str,
    /// Where it can be read.
    pub url: &'static str,
    /// What a user should know before reading it.
    pub note: &'static str,
}

/// One choice of files.
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// `variant = "NAME"`
    pub name: &'static str,
    /// What distinguishes it.
    pub about: &'static str,
    /// Where its files are; the first part's commit names the published folder.
    pub parts: &'static [Part],
}

/// Files of one repository.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// `owner/name`
    pub repository: &'static str,
    /// The files that are wanted of it.
    pub wants: &'static [Want],
}

/// A file or a few.
#[derive(Debug, PartialEq, Eq)]
pub enum Want {
    /// One file.
    File {
        /// Its name in the repository.
        from: &'static str,
        /// Its name in our folder.
        to: &'static str,
    },
    /// The configurations and weights directly in a folder, whatever their shards are called.
    Folder(&'static str),
}

impl Want {
    /// Our name for a repository's file, where this wants it.
    pub fn takes(&self, name: &str) -> Option<String> {
        match self {
            Self::File { from, to } => (*from == name).then(|| (*to).to_owned()),
            Self::Folder(folder) => {
                let file = name.strip_prefix(folder)?.strip_prefix('/')?;
                let weights = file.ends_with(".safetensors") && !file.contains(".fp16");
                let words = file.ends_with(".json") && !file.contains(".fp16.");
                (!file.contains('/') && (weights || words)).then(|| name.to_owned())
            }
        }
    }
}

impl Release {
    /// The models that can be fetched.
    pub fn all() -> &'static [Self] {
        &RELEASES
    }

    /// The model with this key.
    pub fn find(key: &str) -> Option<&'static Self> {
        RELEASES.iter().find(|release| release.key == key)
    }

    /// The variant with this name, the first where none is named.
    ///
    /// # Errors
    /// A sentence with the names there are.
    pub fn variant(&self, name: Option<&str>) -> Result<&'static Variant, String> {
        let variants = self.variants;
        let Some(name) = name else {
            return Ok(&variants[0]);
        };
        variants
            .iter()
            .find(|variant| variant.name == name)
            .ok_or_else(|| {
                let names: Vec<_> = variants.iter().map(|variant| variant.name).collect();
                format!(
                    "{} has no variant {name:?}; it has {}",
                    self.key,
                    names.join(", ")
                )
            })
    }
}

const fn same(name: &'static str) -> Want {
    Want::File {
        from: name,
        to: name,
    }
}

const CLIP_AND_T5: Part = Part {
    repository: "comfyanonymous/flux_text_encoders",
    wants: &[same("clip_l.safetensors"), same("t5xxl_fp16.safetensors")],
};
const CLIP_AND_SMALL_T5: Part = Part {
    repository: "comfyanonymous/flux_text_encoders",
    wants: &[
        same("clip_l.safetensors"),
        same("t5xxl_fp8_e4m3fn_scaled.safetensors"),
    ],
};
const AUTOENCODER_COPY: Part = Part {
    repository: "Comfy-Org/Lumina_Image_2.0_Repackaged",
    wants: &[Want::File {
        from: "split_files/vae/ae.safetensors",
        to: "ae.safetensors",
    }],
};
const SD35_FILES: &[Want] = &[
    same("sd3.5_large_turbo.safetensors"),
    same("text_encoders/clip_l.safetensors"),
    same("text_encoders/clip_g.safetensors"),
    same("text_encoders/t5xxl_fp16.safetensors"),
];

static RELEASES: [Release; 2] = [
    Release {
        key: "flux-schnell",
        licence: Licence {
            name: "Apache-2.0",
            url: "https://www.apache.org/licenses/LICENSE-2.0",
            note: "the original repository asks for it to be accepted; the copies do not",
        },
        variants: &[
            Variant {
                name: "original",
                about: "bf16 from the model's own repository (gated), encoders from an ungated one; 34 GB",
                parts: &[
                    Part {
                        repository: "black-forest-labs/FLUX.1-schnell",
                        wants: &[same("flux1-schnell.safetensors"), same("ae.safetensors")],
                    },
                    CLIP_AND_T5,
                ],
            },
            Variant {
                name: "ungated",
                about: "the same files from copies that need no token; 34 GB",
                parts: &[
                    Part {
                        repository: "Comfy-Org/flux1-schnell",
                        wants: &[same("flux1-schnell.safetensors")],
                    },
                    AUTOENCODER_COPY,
                    CLIP_AND_T5,
                ],
            },
            Variant {
                name: "gguf-q8",
                about: "8-bit blocks for the transformer, 8-bit floats for T5, no token; 18 GB",
                parts: &[
                    Part {
                        repository: "city96/FLUX.1-schnell-gguf",
                        wants: &[same("flux1-schnell-Q8_0.gguf")],
                    },
                    AUTOENCODER_COPY,
                    CLIP_AND_SMALL_T5,
                ],
            },
            Variant {
                name: "diffusers",
                about: "the sharded folder of the model's own repository (gated); 34 GB",
                parts: &[Part {
                    repository: "black-forest-labs/FLUX.1-schnell",
                    wants: &[
                        same("model_index.json"),
                        Want::Folder("transformer"),
                        Want::Folder("text_encoder"),
                        Want::Folder("text_encoder_2"),
                        Want::Folder("vae"),
                        Want::Folder("scheduler"),
                    ],
                }],
            },
        ],
    },
    Release {
        key: "sd3.5-turbo",
        licence: Licence {
            name: "Stability AI Community License",
            url: "https://stability.ai/community-license-agreement",
            note: "free below one million dollars of yearly revenue",
        },
        variants: &[
            Variant {
                name: "original",
                about: "single files from the model's own repository (gated); 27.5 GB",
                parts: &[Part {
                    repository: "stabilityai/stable-diffusion-3.5-large-turbo",
                    wants: SD35_FILES,
                }],
            },
            Variant {
                name: "ungated",
                about: "the same files from a copy that needs no token; 27.5 GB",
                parts: &[Part {
                    repository: "adamo1139/stable-diffusion-3.5-large-turbo-ungated",
                    wants: SD35_FILES,
                }],
            },
            Variant {
                name: "diffusers",
                about: "the sharded folder of the model's own repository (gated); 27.5 GB",
                parts: &[Part {
                    repository: "stabilityai/stable-diffusion-3.5-large-turbo",
                    wants: &[
                        same("model_index.json"),
                        Want::Folder("transformer"),
                        Want::Folder("text_encoder"),
                        Want::Folder("text_encoder_2"),
                        Want::Folder("text_encoder_3"),
                        Want::Folder("vae"),
                        Want::Folder("scheduler"),
                    ],
                }],
            },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::super::name::FileName;
    use super::*;

    #[test]
    fn every_name_in_the_lists_can_be_written() {
        let wants = RELEASES
            .iter()
            .flat_map(|release| release.variants)
            .flat_map(|variant| variant.parts)
            .flat_map(|part| part.wants);
        for want in wants {
            if let Want::File { from, to } = want {
                FileName::new(from).expect("a plain name");
                FileName::new(to).expect("a plain name");
            }
        }
    }

    #[test]
    fn a_gated_model_has_a_copy_that_is_not() {
        for release in &RELEASES {
            assert!(release.variant(Some("ungated")).is_ok(), "{}", release.key);
            let error = release.variant(Some("q3")).expect_err("no such variant");
            assert!(error.contains("original, ungated"), "{error}");
        }
    }

    #[test]
    fn a_folder_gives_its_weights_and_configurations_and_nothing_else() {
        let want = Want::Folder("transformer");
        assert!(want.takes("transformer/config.json").is_some());
        assert!(
            want.takes("transformer/diffusion_pytorch_model-00001-of-00003.safetensors")
                .is_some()
        );
        for name in [
            "transformer/model.fp16.safetensors",
            "transformer/model.safetensors.index.fp16.json",
            "transformer/model.bin",
            "transformer/deep/config.json",
            "transformer_2/config.json",
            "config.json",
        ] {
            assert!(want.takes(name).is_none(), "{name}");
        }
    }
}
