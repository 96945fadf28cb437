//! Vectors as JavaScript has them: numbers in a buffer of their own, and whose they are.

use std::sync::Arc;

use embed_client::{Embedding, ModelInfo};
use napi::bindgen_prelude::*;
use napi::{Property, PropertyAttributes};

use crate::degraded;
use crate::promise::Value;

/// Makes the vectors of one call, which share the description of their model.
pub(crate) struct Vectors {
    env: Env,
    /// The last vector's model, and the same in JavaScript: another comes only if a worker is
    /// replaced in the middle of the call.
    model: Option<(Arc<ModelInfo>, Object<'static>)>,
}

impl Vectors {
    pub(crate) fn new(env: &Env) -> Self {
        Self { env: Env::from_raw(env.raw()), model: None }
    }

    /// A `Float32Array` over an `ArrayBuffer` of its own, which may be transferred or changed.
    pub(crate) fn make(&mut self, embedding: &Embedding) -> Result<Value> {
        let value: Value = Float32ArraySlice::copy_from(&self.env, &embedding.vector)?.to_unknown();
        let mut vector = value.coerce_to_object()?;
        if let Some(model) = &embedding.model {
            let model = self.model(model)?;
            // Not enumerable: two vectors with the same numbers stay equal to whoever compares them.
            let property = Property::new()
                .with_utf8_name("model")?
                .with_value(&model)
                .with_property_attributes(PropertyAttributes::Default);
            vector.define_properties(&[property])?;
        }
        if let Some(why) = &embedding.degraded {
            degraded::mark(&self.env, &mut vector, why)?;
        }
        Ok(value)
    }

    fn model(&mut self, model: &Arc<ModelInfo>) -> Result<Object<'static>> {
        if let Some((known, object)) = &self.model
            && Arc::ptr_eq(known, model)
        {
            return Ok(*object);
        }
        let object = describe(&self.env, model)?;
        self.model = Some((Arc::clone(model), object));
        Ok(object)
    }
}

/// `EmbedModel` of `index.d.ts`.
fn describe(env: &Env, model: &ModelInfo) -> Result<Object<'static>> {
    let ModelInfo {
        name,
        architecture,
        dimensions,
        context_tokens,
        pooling,
        quantization,
        fingerprint,
    } = model;
    let value: Value = Object::new(env)?.to_unknown();
    let mut object = value.coerce_to_object()?;
    object.set_named_property("name", name.as_str())?;
    object.set_named_property("architecture", architecture.as_str())?;
    object.set_named_property("dimensions", *dimensions)?;
    object.set_named_property("contextTokens", *context_tokens)?;
    object.set_named_property("pooling", pooling.as_str())?;
    object.set_named_property("quantization", quantization.as_str())?;
    object.set_named_property("fingerprint", fingerprint.as_str())?;
    object.freeze()?;
    Ok(object)
}
