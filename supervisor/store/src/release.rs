//! The models that can be fetched, with the wanted files of each variant's repositories.
//!
//! The original repositories hold each model twice (single files and a diffusers folder) and require that a licence
//! is accepted; the ungated copies hold the same files. Names and licences are from the public pages of these
//! repositories; the digests that a hub states are checked during the transfer.

/// A model that can be fetched.
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    /// Its key in the registry.
    pub key: &'static str,
    /// Licence of the weights.
    pub licence: Licence,
    /// Choices of files; the first is the default.
    pub variants: &'static [Variant],
}

/// A licence.
#[derive(Debug, PartialEq, Eq)]
pub struct Licence {
    /// Name.
    pub name: &'static str,
    /// Address of its text.
    pub url: &'static str,
    /// Summary in a few words.
    pub note: &'static str,
}

/// A choice of files.
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name in the settings, `variant = "NAME"`.
    pub name: &'static str,
    /// Difference to the other variants.
    pub about: &'static str,
    /// Files by repository; the first one's commit names the published folder.
    pub parts: &'static [RepositoryPart],
}

/// Files of one repository.
#[derive(Debug, PartialEq, Eq)]
pub struct RepositoryPart {
    /// `owner/name`
    pub repository: &'static str,
    /// The wanted files.
    pub wants: &'static [WantedFiles],
}

/// One wanted file, or those of a folder.
#[derive(Debug, PartialEq, Eq)]
pub enum WantedFiles {
    /// One file.
    File {
        /// Its name in the repository.
        from: &'static str,
        /// Its name in the folder of the model.
        to: &'static str,
    },
    /// The configurations and weights directly in a folder, with any names of shards.
    Folder(&'static str),
}

impl WantedFiles {
    /// The name in the model's folder for a repository's file; `None` if the file is not wanted.
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
    /// All models that can be fetched.
    pub fn all() -> &'static [Self] {
        &RELEASES
    }

    /// The model with this key.
    pub fn find(key: &str) -> Option<&'static Self> {
        RELEASES.iter().find(|release| release.key == key)
    }

    /// The variant with this name; the first by default.
    ///
    /// # Errors
    /// A sentence that lists the names of the variants.
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

const fn same(name: &'static str) -> WantedFiles {
    WantedFiles::File {
        from: name,
        to: name,
    }
}

const CLIP_AND_T5: RepositoryPart = RepositoryPart {
    repository: "comfyanonymous/flux_text_encoders",
    wants: &[same("clip_l.safetensors"), same("t5xxl_fp16.safetensors")],
};
const CLIP_AND_SMALL_T5: RepositoryPart = RepositoryPart {
    repository: "comfyanonymous/flux_text_encoders",
    wants: &[
        same("clip_l.safetensors"),
        same("t5xxl_fp8_e4m3fn_scaled.safetensors"),
    ],
};
const AUTOENCODER_COPY: RepositoryPart = RepositoryPart {
    repository: "Comfy-Org/Lumina_Image_2.0_Repackaged",
    wants: &[WantedFiles::File {
        from: "split_files/vae/ae.safetensors",
        to: "ae.safetensors",
    }],
};
const SD35_FILES: &[WantedFiles] = &[
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
                    RepositoryPart {
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
                    RepositoryPart {
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
                    RepositoryPart {
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
                parts: &[RepositoryPart {
                    repository: "black-forest-labs/FLUX.1-schnell",
                    wants: &[
                        same("model_index.json"),
                        WantedFiles::Folder("transformer"),
                        WantedFiles::Folder("text_encoder"),
                        WantedFiles::Folder("text_encoder_2"),
                        WantedFiles::Folder("vae"),
                        WantedFiles::Folder("scheduler"),
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
                parts: &[RepositoryPart {
                    repository: "stabilityai/stable-diffusion-3.5-large-turbo",
                    wants: SD35_FILES,
                }],
            },
            Variant {
                name: "ungated",
                about: "the same files from a copy that needs no token; 27.5 GB",
                parts: &[RepositoryPart {
                    repository: "adamo1139/stable-diffusion-3.5-large-turbo-ungated",
                    wants: SD35_FILES,
                }],
            },
            Variant {
                name: "diffusers",
                about: "the sharded folder of the model's own repository (gated); 27.5 GB",
                parts: &[RepositoryPart {
                    repository: "stabilityai/stable-diffusion-3.5-large-turbo",
                    wants: &[
                        same("model_index.json"),
                        WantedFiles::Folder("transformer"),
                        WantedFiles::Folder("text_encoder"),
                        WantedFiles::Folder("text_encoder_2"),
                        WantedFiles::Folder("text_encoder_3"),
                        WantedFiles::Folder("vae"),
                        WantedFiles::Folder("scheduler"),
                    ],
                }],
            },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::FileName;

    #[test]
    fn every_name_in_the_lists_can_be_written() {
        let wants = RELEASES
            .iter()
            .flat_map(|release| release.variants)
            .flat_map(|variant| variant.parts)
            .flat_map(|part| part.wants);
        for want in wants {
            if let WantedFiles::File { from, to } = want {
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
        let want = WantedFiles::Folder("transformer");
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
