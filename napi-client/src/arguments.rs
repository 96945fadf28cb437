//! Reads the arguments of a call, and says precisely what is wrong with them.
//!
//! Objects are the caller's: frozen, without prototype, with getters, even proxies. Every property is
//! read once, through `Reflect.get`, because a function call is the way in which napi hands over what
//! a getter throws.

use std::time::Duration;

use embed_client::{
    EmbedError, EmbedOptions, Fallback, Priority, TEXT_BYTES_MAX, TIMEOUT_DEFAULT, Task,
};
use napi::bindgen_prelude::*;
use napi::{Env, Unknown, ValueType};

use crate::abort::Signal;
use crate::errors::{Checked, Rejection};
use crate::progress::OnProgress;

/// Every option that this version knows, as `index.d.ts` declares them.
const OPTIONS: [&str; 10] = [
    "model",
    "task",
    "truncate",
    "dimensions",
    "normalize",
    "priority",
    "timeoutMs",
    "fallback",
    "signal",
    "onProgress",
];

/// What is taken for the `fallback` option where a call has none.
const FALLBACK_VARIABLE: &str = "EMBED_FALLBACK";

/// Elements of an array that are copied at a time. A copy of all would be as large as the array claims to
/// be: `Array(2 ** 32 - 1)` holds nothing, and its copy gigabytes.
const SLICE_TEXTS: u32 = 1024;

/// Longest time limit: 2^31 - 1 ms, as in `setTimeout`.
const TIMEOUT_MS_MAX: f64 = 2_147_483_647.0;

/// A text, or why it cannot be sent.
pub(crate) type Text = std::result::Result<String, EmbedError>;

/// The first argument.
pub(crate) enum Input {
    /// A string.
    One(Text),
    /// An array of strings.
    Many(Vec<Text>),
}

impl Input {
    /// Reads a string or an array of strings.
    ///
    /// A lone surrogate becomes U+FFFD, as in JavaScript's own `TextEncoder`.
    pub(crate) fn read(env: &Env, value: Unknown) -> Checked<Self> {
        if value.get_type()? == ValueType::String {
            return Ok(Self::One(text(value)?));
        }
        if !value.is_array()? {
            return Err(Rejection::argument(format!(
                "texts: found {}, wanted a string or an array of strings",
                describe(value)?
            )));
        }
        let array_class: Object = global(env, "Array")?;
        let prototype: Object = property(env, array_class, "prototype")?;
        let slice: Function<FnArgs<(u32, u32)>, Array> = property(env, prototype, "slice")?;
        let slice = slice.bind(value)?;
        let n_texts = value.coerce_to_object()?.get_array_length()?;
        // Not reserved at once: an array of holes may claim any length.
        let mut texts = Vec::new();
        for first in (0..n_texts).step_by(SLICE_TEXTS as usize) {
            // A plain copy: holes are undefined in it, and getters have had their say.
            let end = first.saturating_add(SLICE_TEXTS).min(n_texts);
            let copy = slice.call((first, end).into())?;
            for text_idx in first..end {
                match copy.get::<Unknown>(text_idx - first)? {
                    Some(element) if element.get_type()? == ValueType::String => {
                        texts.push(text(element)?);
                    }
                    element => {
                        let found = element.map_or(Ok("nothing".to_owned()), describe)?;
                        return Err(Rejection::argument(format!(
                            "texts[{text_idx}]: found {found}, wanted a string"
                        )));
                    }
                }
            }
        }
        Ok(Self::Many(texts))
    }

    /// How many texts there are.
    pub(crate) fn n_texts(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(texts) => texts.len(),
        }
    }
}

/// A JavaScript string as UTF-8. One that is too long is not copied.
fn text(value: Unknown) -> Result<Text> {
    let string = value.coerce_to_string()?;
    let n_bytes = string.utf8_len()?;
    if n_bytes > TEXT_BYTES_MAX {
        return Ok(Err(EmbedError::text_too_long(n_bytes)));
    }
    Ok(Ok(string.into_utf8()?.into_owned()?))
}

/// The second argument. `None` is an option that was not given, or is `undefined`.
#[derive(Default)]
pub(crate) struct Options<'env> {
    pub(crate) model: Option<String>,
    pub(crate) signal: Option<Signal<'env>>,
    pub(crate) on_progress: Option<OnProgress<'env>>,
    task: Option<Task>,
    truncate: Option<bool>,
    dimensions: Option<u32>,
    normalize: Option<bool>,
    priority: Option<Priority>,
    timeout: Option<Duration>,
    fallback: Fallback,
}

impl<'env> Options<'env> {
    /// Reads an options object, or `undefined`.
    pub(crate) fn read(env: &'env Env, value: Unknown<'env>) -> Checked<Self> {
        match value.get_type()? {
            ValueType::Undefined => {
                return Ok(Self { fallback: fallback_of_environment()?, ..Self::default() });
            }
            ValueType::Object if !value.is_array()? => {}
            _ => {
                let found = describe(value)?;
                return Err(Rejection::argument(format!(
                    "options: found {found}, wanted an object"
                )));
            }
        }
        let object = value.coerce_to_object()?;
        refuse_unknown(env, object)?;
        let get = |name: &'static str| -> Checked<Given<'env>> {
            match property(env, object, name) {
                Ok(value) => Ok(Given { name, value }),
                // napi keeps what was thrown by reference, and there is none to a primitive.
                Err(error) if error.status == Status::InvalidArg => Err(Rejection::argument(
                    format!("options.{name}: its getter threw something other than an object"),
                )),
                Err(error) => Err(error.into()),
            }
        };
        Ok(Self {
            model: get("model")?.path()?,
            task: get("task")?.task()?,
            truncate: get("truncate")?.boolean()?,
            dimensions: get("dimensions")?.count()?,
            normalize: get("normalize")?.boolean()?,
            priority: get("priority")?.priority()?,
            timeout: get("timeoutMs")?.milliseconds()?,
            fallback: match get("fallback")?.fallback()? {
                Some(fallback) => fallback,
                None => fallback_of_environment()?,
            },
            signal: get("signal")?.signal(env)?,
            on_progress: callback(env, object)?,
        })
    }

    /// What the worker is told: one text is waited for, an array is not.
    pub(crate) fn for_input(&self, input: &Input) -> EmbedOptions {
        let priority = match input {
            Input::One(_) => Priority::Interactive,
            Input::Many(_) => Priority::Bulk,
        };
        EmbedOptions {
            task: self.task,
            truncate: self.truncate.unwrap_or(false),
            normalize: self.normalize.unwrap_or(true),
            dimensions: self.dimensions,
            priority: self.priority.unwrap_or(priority),
            timeout: self.timeout.unwrap_or(TIMEOUT_DEFAULT),
            fallback: self.fallback,
        }
    }
}

/// An option as it was given.
struct Given<'env> {
    name: &'static str,
    value: Unknown<'env>,
}

impl<'env> Given<'env> {
    fn wrong(&self, wanted: &str) -> Rejection {
        match describe(self.value) {
            Ok(found) => Rejection::argument(format!(
                "options.{}: found {found}, wanted {wanted}",
                self.name
            )),
            Err(error) => error.into(),
        }
    }

    /// The value if it is of this type, `None` if it is undefined.
    fn of_type(&self, wanted_type: ValueType, wanted: &str) -> Checked<Option<Unknown<'env>>> {
        match self.value.get_type()? {
            ValueType::Undefined => Ok(None),
            found if found == wanted_type => Ok(Some(self.value)),
            _ => Err(self.wrong(wanted)),
        }
    }

    fn boolean(&self) -> Checked<Option<bool>> {
        let value = self.of_type(ValueType::Boolean, "true or false")?;
        Ok(value.map(|value| value.coerce_to_bool()).transpose()?)
    }

    fn string(&self, wanted: &str) -> Checked<Option<String>> {
        let value = self.of_type(ValueType::String, wanted)?;
        Ok(value.map(|value| value.coerce_to_string()?.into_utf8()?.into_owned()).transpose()?)
    }

    fn number(&self, wanted: &str, is_good: impl FnOnce(f64) -> bool) -> Checked<Option<f64>> {
        let Some(value) = self.of_type(ValueType::Number, wanted)? else { return Ok(None) };
        let number = value.coerce_to_number()?.get_double()?;
        if is_good(number) { Ok(Some(number)) } else { Err(self.wrong(wanted)) }
    }

    fn path(&self) -> Checked<Option<String>> {
        let wanted = "the path of a GGUF file";
        match self.string(wanted)? {
            // A NUL would end the path early.
            Some(path) if path.is_empty() || path.contains('\0') => Err(self.wrong(wanted)),
            path => Ok(path),
        }
    }

    fn count(&self) -> Checked<Option<u32>> {
        let is_good =
            |number: f64| number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number);
        let number = self.number("a whole number from 1 to the model's dimensions", is_good)?;
        // Checked just above to be a whole number in the range of u32.
        Ok(number.map(|number| number as u32))
    }

    fn milliseconds(&self) -> Checked<Option<Duration>> {
        let is_good = |number: f64| number > 0.0 && number <= TIMEOUT_MS_MAX;
        let number = self.number("milliseconds, more than 0 and at most 2147483647", is_good)?;
        Ok(number.map(|number| Duration::from_secs_f64(number / 1000.0)))
    }

    fn priority(&self) -> Checked<Option<Priority>> {
        let wanted = "'interactive' or 'bulk'";
        match self.string(wanted)?.as_deref() {
            None => Ok(None),
            Some("interactive") => Ok(Some(Priority::Interactive)),
            Some("bulk") => Ok(Some(Priority::Bulk)),
            Some(_) => Err(self.wrong(wanted)),
        }
    }

    fn task(&self) -> Checked<Option<Task>> {
        let wanted = "'query', 'document', 'clustering' or 'classification'";
        match self.string(wanted)? {
            None => Ok(None),
            Some(word) => word.parse().map(Some).map_err(|_| self.wrong(wanted)),
        }
    }

    fn fallback(&self) -> Checked<Option<Fallback>> {
        let wanted = "'none' or 'hash'";
        match self.string(wanted)? {
            None => Ok(None),
            Some(name) => fallback(&name).map(Some).ok_or_else(|| self.wrong(wanted)),
        }
    }

    fn signal(&self, env: &'env Env) -> Checked<Option<Signal<'env>>> {
        if self.value.get_type()? == ValueType::Undefined {
            return Ok(None);
        }
        match Signal::from_value(env, self.value)? {
            Some(signal) => Ok(Some(signal)),
            None => Err(self.wrong("an AbortSignal")),
        }
    }
}

fn fallback(name: &str) -> Option<Fallback> {
    match name {
        "none" => Some(Fallback::None),
        "hash" => Some(Fallback::Hash),
        _ => None,
    }
}

/// What [`FALLBACK_VARIABLE`] says; it is asked at every call, on the JavaScript thread.
fn fallback_of_environment() -> Checked<Fallback> {
    let name = std::env::var_os(FALLBACK_VARIABLE).unwrap_or_default();
    if name.is_empty() {
        return Ok(Fallback::None);
    }
    name.to_str().and_then(fallback).ok_or_else(|| {
        Rejection::argument(format!(
            "environment variable {FALLBACK_VARIABLE}: found '{}', wanted 'none' or 'hash'",
            name.display()
        ))
    })
}

/// The `onProgress` option, which napi types only as it is read.
fn callback<'env>(env: &'env Env, object: Object<'env>) -> Checked<Option<OnProgress<'env>>> {
    let name = "onProgress";
    match property::<Either<OnProgress, Unknown>>(env, object, name)? {
        Either::A(callback) => Ok(Some(callback)),
        Either::B(value) => match value.get_type()? {
            ValueType::Undefined => Ok(None),
            _ => Err(Given { name, value }.wrong("a function")),
        },
    }
}

/// A misspelt option must not be silently without effect.
fn refuse_unknown(env: &Env, object: Object) -> Checked<()> {
    let object_class: Object = global(env, "Object")?;
    let keys: Function<Object, Vec<String>> = property(env, object_class, "keys")?;
    for name in keys.call(object)? {
        if !OPTIONS.contains(&name.as_str()) {
            return Err(Rejection::argument(format!(
                "options.{name}: no such option; there are {}",
                OPTIONS.join(", ")
            )));
        }
    }
    Ok(())
}

/// `globalThis[name]`, of a type that the language gives it.
pub(crate) fn global<T: FromNapiValue>(env: &Env, name: &str) -> Result<T> {
    env.get_global()?.get_named_property_unchecked(name)
}

/// `object[name]`; what a getter throws is the error.
pub(crate) fn property<'env, T: FromNapiValue>(
    env: &Env,
    object: Object<'env>,
    name: &str,
) -> Result<T> {
    let reflect: Object = global(env, "Reflect")?;
    let get: Function<FnArgs<(Object, &str)>, T> = reflect.get_named_property("get")?;
    get.call((object, name).into())
}

/// What was found, for an error message.
fn describe(value: Unknown) -> Result<String> {
    Ok(match value.get_type()? {
        ValueType::Undefined => "undefined".into(),
        ValueType::Null => "null".into(),
        ValueType::Boolean => value.coerce_to_bool()?.to_string(),
        ValueType::Number => value.coerce_to_string()?.into_utf8()?.into_owned()?,
        ValueType::String => {
            let string = value.coerce_to_string()?.into_utf8()?.into_owned()?;
            let start: String = string.chars().take(40).collect();
            let dots = if start.len() < string.len() { "..." } else { "" };
            format!("'{start}{dots}'")
        }
        ValueType::Symbol => "a symbol".into(),
        ValueType::Function => "a function".into(),
        ValueType::BigInt => "a bigint".into(),
        _ if value.is_array()? => "an array".into(),
        _ => "an object".into(),
    })
}
