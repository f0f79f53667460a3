//! Identifies languages in Latin script by their commonest short words, which are a third of most text. If
//! one language has most of them, trigrams, which take fifty times as long, could not make it any more
//! certain.

use super::codes::Language;
use std::sync::LazyLock;

/// Maximum bytes of a function word; longer words are none.
const LONGEST: usize = 8;
const SLOTS: usize = 2048;
/// Minimum number of words that must count for a language.
const FEWEST: u32 = 3;
/// At least one in this many words of the text has to belong to the language.
const ONE_OF: u32 = 5;

/// Codes and short words of each language. The list includes languages that are easily confused: if they have
/// many words in common, neither is far enough ahead, and trigrams decide. Words of one letter belong to too
/// many languages.
const WORDS: [(&str, &str, &str); 16] = [
    (
        "en",
        "eng",
        "the of and to in is that it for was on as with be by this are from at have not but they or \
     his her you we which he she will an my your their has had been if would there what so all me or were \
     who when than them do out up did its into how these shall thee thou thy hath",
    ),
    (
        "de",
        "deu",
        "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an \
     werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über so zum war haben nur oder \
     aber vor zur bis mehr durch man sein wurde ich wir ihr",
    ),
    (
        "fr",
        "fra",
        "de la le et les des en un du une que est dans qui par pour au sur pas plus ne se il sont avec \
     ce aux elle cette ou son sa ses être comme nous vous mais leur ont été je ils même",
    ),
    (
        "es",
        "spa",
        "de la que el en los se del las un por con no una su para es al lo como más sus le pero este ha \
     esta entre ya todo son fue muy sin sobre también hasta hay donde han está",
    ),
    (
        "it",
        "ita",
        "di che la il un per in una non è con sono del della le da si dei alla nel al ha più gli anche \
     delle come ma lo dal questo nella ed se ad loro essere sul era degli dalla hanno",
    ),
    (
        "pt",
        "por",
        "de que do da em para com não uma os no se na por mais as dos como mas ao ele das seu sua ou \
     quando muito nos já eu também só pelo pela até isso foi são um tem aos",
    ),
    (
        "nl",
        "nld",
        "de van het een en in is dat op te zijn met voor die niet aan er om ook als dan maar bij nog uit \
     worden door naar heeft hebben wordt of deze over kan was werd hij zij ze wel zich",
    ),
    (
        "sv",
        "swe",
        "och att det som en är av för med till den har de inte om ett han men var jag på sig från vi så \
     kan när år ut där eller skulle hade under också efter",
    ),
    (
        "da",
        "dan",
        "og at det som en er af for med til den har de ikke om et han men var jeg på sig fra vi så kan \
     da ved hun blev eller skal havde også efter der",
    ),
    (
        "no",
        "nor",
        "og at det som en er av for med til den har de ikke om et han men var jeg på seg fra vi så kan da \
     ved hun ble eller skal hadde også etter der",
    ),
    (
        "ca",
        "cat",
        "de la que el en els es del les un per amb no una al com més però va ha són dels seva aquest \
     també seu ser hi pel aquesta fins entre ja molt sobre on han",
    ),
    (
        "af",
        "afr",
        "die van en in is het nie dat te vir met op om sy wat hy as ook by aan was deur sal kan maar hulle",
    ),
    (
        "eo",
        "epo",
        "la de kaj en al estas ne li ke por mi kun el ili tiu kiu sed pri ŝi ĝi oni pli per da estis",
    ),
    (
        "id",
        "ind",
        "yang dan di ini itu dengan untuk dari dalam tidak pada adalah akan ke oleh juga bisa saya ada atau",
    ),
    (
        "ro",
        "ron",
        "de și în la cu pe este un nu din că să care pentru mai sau au fi prin ca le se ce dar sunt",
    ),
    ("la", "lat", "et in est non ad ut cum qui quod de sed ex ab per si quae aut sunt ac nec quam esse quo"),
];

/// Hash table of words, each as its bytes in a number, with one bit for every language that has the word.
struct Table(Vec<(u64, u32)>);

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table(vec![(0, 0); SLOTS]);
    for (index, (_, _, words)) in WORDS.iter().enumerate() {
        for word in words.split_whitespace() {
            let key = word.bytes().fold(0, |key, byte| key << 8 | u64::from(byte));
            let slot = table.slot(key);
            let (_, languages) = table.0[slot];
            table.0[slot] = (key, languages | 1 << index);
        }
    }
    table
});

impl Table {
    /// Finds the slot that holds a word or is free for it. There are more slots than words.
    fn slot(&self, key: u64) -> usize {
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as usize;
        while self.0[slot].0 != key && self.0[slot].0 != 0 {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }
}

/// Identifies the language whose short words a text is full of, if there is one.
pub(super) fn identify(text: &str) -> Option<Language> {
    let table = &*TABLE;
    let mut counts = [0_u32; WORDS.len()];
    let (mut words, mut key, mut length) = (0_u32, 0_u64, 0);
    for byte in text.bytes().chain([b' ']) {
        if byte.is_ascii_alphabetic() || byte >= 0x80 {
            // Capitals of other letters stand at no function word's start but in headings.
            let byte = if byte < 0x80 { byte | 0x20 } else { byte };
            key = key << 8 | u64::from(byte);
            length += 1;
            continue;
        }
        if length > 1 {
            words += 1;
            if length <= LONGEST {
                let mut languages = table.0[table.slot(key)].1;
                while languages != 0 {
                    counts[languages.trailing_zeros() as usize] += 1;
                    languages &= languages - 1;
                }
            }
        }
        (key, length) = (0, 0);
    }
    let (best, &most) = counts.iter().enumerate().max_by_key(|&(_, count)| *count)?;
    let others = counts.iter().enumerate().filter(|&(index, _)| index != best);
    let second = others.map(|(_, &count)| count).max().unwrap_or(0);
    let certain = most >= FEWEST && most * ONE_OF >= words && 2 * most >= 3 * second && most >= second + 2;
    let (two, three, _) = WORDS[best];
    certain.then(|| Language::new(two, three))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_fit_the_table_and_each_is_of_its_language() {
        let table = &*TABLE;
        assert!(table.0.iter().filter(|slot| slot.0 != 0).count() * 2 < SLOTS);
        for word in WORDS.iter().flat_map(|(_, _, words)| words.split_whitespace()) {
            assert!(word.len() <= LONGEST && word.len() > 1, "{word}");
        }
    }

    #[test]
    fn what_is_told_is_certain_and_neighbours_are_left_to_trigrams() {
        let code = |text| identify(text).map(Language::code);
        assert_eq!(code("Before we proceed any further, hear me speak of what THE people have."), Some("en"));
        assert_eq!(code("Das ist nicht der Weg, auf dem wir über die Brücke zu ihm kommen."), Some("de"));
        assert_eq!(
            code("El perro que está en la casa no es de los vecinos, pero lo quieren mucho."),
            Some("es")
        );
        for other in [
            "Alle mennesker er født frie og med samme menneskeverd og menneskerettigheter.",
            "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
            "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima.",
            "Minden emberi lény szabadon születik és egyenlő méltósága és joga van.",
            "Ang lahat ng tao'y isinilang na malaya at pantay-pantay sa karangalan at mga karapatan.",
            "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
            "Citizen Kane, London 1941, RKO Pictures, Orson Welles, Joseph Cotten",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }
}
