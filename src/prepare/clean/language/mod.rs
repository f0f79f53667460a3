//! Identifies the language of a text and of its paragraphs, and splits documents by language.
//!
//! If a script has one language, the script decides. If it has few (Arabic, Cyrillic, Devanagari, Bengali),
//! letters that only one of them has decide; in Latin script, short words do. Trigrams (`whatlang`) decide
//! where neither is enough.

mod codes;
mod script;
mod shared;
mod words;

pub use self::codes::Language;

use self::{
    codes::{CHINESE, HINDI, JAPANESE},
    script::{ALONE, SCRIPTS, Script},
    shared::{arabic, by_trigrams, cyrillic, latin},
};
use serde::{Deserialize, Serialize};

/// Minimum number of letters; a text with fewer, such as a number, a name or a heading, has no language.
const FEWEST_LETTERS: usize = 6;
/// Number of windows, evenly spread, through which a long text is sampled.
const WINDOWS: usize = 4;
/// Maximum bytes of a paragraph that are examined.
const PARAGRAPH_BYTES: usize = 400;

/// Settings of the languages that are kept and of how they are identified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageConfig {
    pub enabled: bool,
    /// Languages to keep, by ISO 639-1 or 639-3; empty keeps all.
    pub keep: Vec<String>,
    /// Minimum confidence, from 0 to 1; the language of a less certain text is `und`.
    pub threshold: f64,
    /// Split documents into one for each language of their paragraphs.
    pub by_paragraph: bool,
    /// Minimum characters of a paragraph that gets a language of its own; shorter ones take the language of
    /// the paragraph before.
    pub paragraph_characters: usize,
    /// Maximum bytes of a document that are examined.
    pub sample_bytes: usize,
}

impl Default for LanguageConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            keep: Vec::new(),
            threshold: 0.5,
            by_paragraph: false,
            paragraph_characters: 40,
            sample_bytes: 2048,
        }
    }
}

impl LanguageConfig {
    /// Returns whether documents in this language are kept.
    pub fn keeps(&self, language: Language) -> bool {
        self.keep.is_empty() || self.keep.iter().any(|code| language.is(code))
    }
}

/// A language, and how certain it is, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Identified {
    pub language: Language,
    pub confidence: f64,
}

impl Identified {
    const NONE: Self = Self { language: Language::UNDETERMINED, confidence: 0.0 };
}

/// Identifies the language of a text from at most `sample_bytes` of it.
pub fn identify(text: &str, sample_bytes: usize) -> Identified {
    let sampled = sample(text, sample_bytes);
    let text = sampled.as_deref().unwrap_or(text);
    let mut counts = [0_usize; SCRIPTS];
    if text.is_ascii() {
        counts[Script::Latin as usize] = text.bytes().filter(u8::is_ascii_alphabetic).count();
    } else {
        for script in text.chars().filter_map(Script::of) {
            counts[script as usize] += 1;
        }
    }
    // An ideograph or a syllable says as much as several letters.
    for script in [Script::Han, Script::Kana, Script::Hangul] {
        counts[script as usize] *= 3;
    }
    let total: usize = counts.iter().sum();
    if total < FEWEST_LETTERS {
        return Identified::NONE;
    }
    let count = |script: Script| counts[script as usize];
    let east = count(Script::Han) + count(Script::Kana);
    let share = |part: usize| part as f64 / total as f64;
    let others = counts
        .iter()
        .enumerate()
        .filter(|&(index, _)| index != Script::Han as usize && index != Script::Kana as usize);
    let (largest, most) =
        others.max_by_key(|&(_, count)| *count).map_or((0, 0), |(index, &count)| (index, count));
    if east > most {
        // Japanese has a kana for every few ideographs; Chinese has one at most in a foreign name.
        let language = if count(Script::Kana) * 12 > east { JAPANESE } else { CHINESE };
        return Identified { language, confidence: share(east) };
    }
    let confidence = share(most);
    let certain = |language| Identified { language, confidence };
    let is = |script: Script| largest == script as usize;
    if let Some(language) = ALONE.iter().find(|&&script| is(script)).and_then(|script| script.language()) {
        return certain(language);
    }
    if is(Script::Cyrillic) {
        return cyrillic(text, confidence);
    }
    if is(Script::Arabic) {
        return certain(arabic(text));
    }
    if is(Script::Bengali) {
        // Two letters are Assamese alone.
        let assamese = text.chars().any(|character| matches!(character, '\u{9f0}' | '\u{9f1}'));
        return certain(if assamese { Language::new("as", "asm") } else { Language::new("bn", "ben") });
    }
    if is(Script::Devanagari) {
        let guess = by_trigrams(text).filter(|guess| guess.confidence > 0.3);
        return certain(guess.map_or(HINDI, |guess| guess.language));
    }
    if is(Script::Hebrew) {
        let guess = by_trigrams(text).filter(|guess| guess.confidence > 0.3);
        return certain(guess.map_or(Language::new("he", "heb"), |guess| guess.language));
    }
    latin(text, total, confidence)
}

/// Samples windows of a long text; `None` if the text is short enough to be examined whole.
fn sample(text: &str, sample_bytes: usize) -> Option<String> {
    if text.len() <= sample_bytes.max(64) {
        return None;
    }
    let window = sample_bytes.max(64) / WINDOWS;
    let mut sampled = String::with_capacity(sample_bytes + WINDOWS);
    for index in 0..WINDOWS {
        let start = text.floor_char_boundary((text.len() - window) / (WINDOWS - 1) * index);
        let end = text.floor_char_boundary(start + window);
        sampled.push_str(&text[start..end]);
        sampled.push('\n');
    }
    Some(sampled)
}

/// Identifies the language of a document; it is `und` if the confidence is below the threshold.
pub fn of_document(text: &str, config: &LanguageConfig) -> Identified {
    above_threshold(identify(text, config.sample_bytes), config)
}

fn above_threshold(found: Identified, config: &LanguageConfig) -> Identified {
    if found.confidence < config.threshold {
        Identified { language: Language::UNDETERMINED, ..found }
    } else {
        found
    }
}

/// Part of a document that is in one language.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub language: Language,
    pub text: String,
}

/// Splits a document into one part for each language of its paragraphs, in the order in which the languages
/// first occur. Paragraphs end with a blank line. A short or uncertain paragraph takes the language of the
/// one before or, at the beginning, of the first one that has a language. Without
/// [`LanguageConfig::by_paragraph`] there is one part.
pub fn split(text: &str, config: &LanguageConfig) -> Vec<Part> {
    if !config.by_paragraph {
        return vec![Part { language: of_document(text, config).language, text: text.into() }];
    }
    let bytes = config.sample_bytes.min(PARAGRAPH_BYTES);
    let paragraphs: Vec<(&str, Option<Language>)> = paragraphs(text)
        .map(|paragraph| {
            let short =
                paragraph.chars().take(config.paragraph_characters).count() < config.paragraph_characters;
            // Ideographs say more in fewer characters.
            let short = short && paragraph.len() < config.paragraph_characters * 2;
            let found =
                if short { Identified::NONE } else { above_threshold(identify(paragraph, bytes), config) };
            (paragraph, (found.language != Language::UNDETERMINED).then_some(found.language))
        })
        .collect();
    let language = paragraphs.iter().find_map(|&(_, language)| language);
    let mut language = language.unwrap_or_else(|| of_document(text, config).language);
    let mut parts: Vec<Part> = Vec::new();
    for (paragraph, own) in paragraphs {
        language = own.unwrap_or(language);
        match parts.iter_mut().find(|part| part.language == language) {
            Some(part) => {
                part.text.push_str("\n\n");
                part.text.push_str(paragraph);
            }
            None => parts.push(Part { language, text: paragraph.into() }),
        }
    }
    parts
}

/// Splits a text into paragraphs, without the blank lines around them.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n")
        .map(|paragraph| paragraph.trim_matches('\n'))
        .filter(|paragraph| !paragraph.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [(&str, &str, &str); 22] = [
        (
            "en",
            "eng",
            "All human beings are born free and equal in dignity and rights, and they should act towards one another in a spirit of brotherhood.",
        ),
        (
            "de",
            "deu",
            "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
        ),
        (
            "fr",
            "fra",
            "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience.",
        ),
        (
            "es",
            "spa",
            "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y conciencia, deben comportarse fraternalmente.",
        ),
        (
            "it",
            "ita",
            "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di coscienza.",
        ),
        (
            "pt",
            "por",
            "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de consciência, devem agir uns para com os outros em espírito de fraternidade.",
        ),
        (
            "pl",
            "pol",
            "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i sumieniem.",
        ),
        (
            "tr",
            "tur",
            "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",
        ),
        ("vi", "vie", "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi."),
        (
            "zh",
            "zho",
            "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
        ),
        ("ja", "jpn", "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"),
        ("ko", "kor", "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."),
        ("ar", "ara", "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميرًا."),
        ("fa", "fas", "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند."),
        ("ur", "urd", "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔"),
        (
            "ru",
            "rus",
            "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом и совестью.",
        ),
        (
            "uk",
            "ukr",
            "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю.",
        ),
        ("hi", "hin", "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।"),
        ("th", "tha", "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ"),
        ("el", "ell", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα."),
        ("he", "heb", "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון."),
        ("bn", "ben", "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।"),
    ];

    #[test]
    fn languages_are_told_apart() {
        let config = LanguageConfig::default();
        for (two, three, text) in SAMPLES {
            let found = of_document(text, &config);
            assert_eq!(
                (found.language.code(), found.language.three_letters()),
                (two, three),
                "{found:?} {text}"
            );
        }
    }

    #[test]
    fn scripts_decide_where_there_is_little_text() {
        for (code, text) in [
            ("zh", "今天天气很好"),
            ("ja", "今日は天気がいい"),
            ("ja", "東京タワー"),
            ("ko", "안녕하세요"),
            ("ru", "Привет, как дела?"),
            ("ar", "مرحبا بالعالم"),
            ("th", "สวัสดีครับ"),
            ("hi", "नमस्ते दुनिया"),
            ("zh", "我用 Python 和 Rust 写程序，处理大量的文本数据。"),
        ] {
            assert_eq!(of_document(text, &LanguageConfig::default()).language.code(), code, "{text}");
        }
    }

    #[test]
    fn what_has_no_letters_has_no_language() {
        for text in ["", "12345 67890 !!!", "👍👍👍", "a", "\u{fffd}\u{0}"] {
            assert_eq!(of_document(text, &LanguageConfig::default()).language, Language::UNDETERMINED);
        }
        let config = LanguageConfig { threshold: 1.1, ..Default::default() };
        assert_eq!(of_document(SAMPLES[0].2, &config).language.code(), "und");
    }

    #[test]
    fn long_texts_are_sampled_and_paragraphs_split() {
        let text = SAMPLES.iter().map(|(_, _, text)| format!("{text}\n\n")).collect::<String>();
        let config = LanguageConfig { by_paragraph: true, ..Default::default() };
        let parts = split(&text, &config);
        let codes: Vec<_> = parts.iter().map(|part| part.language.code()).collect();
        assert_eq!(codes, SAMPLES.map(|(code, ..)| code));
        let mixed = format!("Title\n\n{}\n\n{}\n\n42\n\n{}", SAMPLES[0].2, SAMPLES[9].2, SAMPLES[0].2);
        let parts = split(&mixed, &config);
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].text, format!("Title\n\n{}\n\n{}", SAMPLES[0].2, SAMPLES[0].2));
        assert_eq!(parts[1].text, format!("{}\n\n42", SAMPLES[9].2));
        assert_eq!(split(&mixed, &LanguageConfig::default()).len(), 1);
        let long = SAMPLES[9].2.repeat(1000);
        assert_eq!(identify(&long, 100).language, CHINESE);
    }

    #[test]
    fn both_codes_name_a_language() {
        let config = LanguageConfig { keep: vec!["en".into(), "cmn".into()], ..Default::default() };
        let of = |index: usize| of_document(SAMPLES[index].2, &config).language;
        assert!(config.keeps(of(0)) && config.keeps(of(9)) && !config.keeps(of(1)));
        assert!(of(1).is("deu") && of(1).is("de") && !of(1).is("d"));
    }
}
