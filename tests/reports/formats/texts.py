"""Plain text in the encodings that Python's codecs know, and sentences for all other formats."""

import codecs

SENTENCES = {
    "en": "The heron stood in the shallow water and waited for the small fish. Nobody on the bridge noticed it, "
    "and the evening went on as every other evening had gone before.",
    "de": "Der Fluß fließt langsam durch die grünen Wiesen, und über den Hügeln hängen schöne weiße Wolken. "
    "Früher saßen hier die Fischer und flickten ihre Netze, während die Kinder Süßigkeiten aßen.",
    "fr": "Le héron était debout dans l'eau peu profonde, où il guettait les poissons. Après la fête, les garçons "
    "sont allés à l'église, et la forêt était déjà très sombre à côté du château.",
    "pl": "Zażółć gęślą jaźń, powiedział rybak, który łowił ryby w rzece. Później wszyscy poszli do domu, "
    "ponieważ było już późno i zaczął padać śnieg na łąkę pod górą.",
    "cs": "Příliš žluťoučký kůň úpěl ďábelské ódy, protože měl žízeň. Večer pak všichni odešli domů, neboť začalo "
    "pršet a řeka se rychle zvedala nad louku pod kopcem.",
    "hu": "Árvíztűrő tükörfúrógép, mondta az öreg halász, aki a folyó partján ült. Később mindenki hazament, mert "
    "már késő volt, és a hegyek fölött sötét felhők gyülekeztek.",
    "ru": "Съешь же ещё этих мягких французских булок, да выпей чаю. Вечером рыбаки вернулись с реки домой, потому "
    "что начался дождь, и над лугами поднялся густой туман.",
    "uk": "Жебракують філософи при ґанку церкви в Гадячі, ще й шатро їхнє п'яне знаємо. Увечері рибалки повернулися "
    "з річки додому, бо почався дощ, і над луками піднявся туман.",
    "bg": "Жълтата дюля беше щастлива, че пухът, който цъфна, замръзна като гьон. Вечерта рибарите се върнаха от "
    "реката вкъщи, защото започна дъжд и над поляните се вдигна мъгла.",
    "el": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, είπε ο γέρος ψαράς δίπλα στο ποτάμι. Το βράδυ όλοι γύρισαν στο σπίτι, "
    "γιατί άρχισε να βρέχει και η ομίχλη σκέπασε τα λιβάδια.",
    "tr": "Pijamalı hasta yağız şoföre çabucak güvendi, dedi yaşlı balıkçı. Akşam herkes eve döndü, çünkü yağmur "
    "başlamıştı ve ırmağın üstünde yoğun bir sis yükseliyordu.",
    "he": "הדייג הזקן ישב ליד הנהר וחיכה לדגים. בערב כולם חזרו הביתה, כי התחיל לרדת גשם והערפל כיסה את השדות "
    "שליד הגשר הישן. בבוקר השמש זרחה שוב והילדים יצאו לשחק.",
    "ar": "جلس الصياد العجوز قرب النهر وانتظر الأسماك. في المساء عاد الجميع إلى البيت لأن المطر بدأ يهطل وغطى "
    "الضباب الحقول القريبة من الجسر القديم. وفي الصباح أشرقت الشمس من جديد.",
    "th": "ชาวประมงเฒ่านั่งอยู่ริมแม่น้ำและรอปลา ในตอนเย็นทุกคนกลับบ้านเพราะฝนเริ่มตกและหมอกปกคลุมทุ่งนา "
    "ใกล้สะพานเก่า ในตอนเช้าดวงอาทิตย์ขึ้นอีกครั้งและเด็กๆออกไปเล่น",
    "vi": "Người đánh cá già ngồi bên sông và chờ cá. Buổi tối mọi người về nhà vì trời bắt đầu mưa.",
    "lt": "Įlinkdama fechtuotojo špaga sublykčiojusi pragręžė apvalų arbūzą, tarė senas žvejys prie upės. Vakare "
    "visi grįžo namo, nes pradėjo lyti ir virš pievų pakilo rūkas.",
    "lv": "Glāžšķūņa rūķīši dzērumā čiepj Baha koncertflīģeļu vākus, teica vecais zvejnieks pie upes. Vakarā visi "
    "atgriezās mājās, jo sāka līt un virs pļavām pacēlās migla.",
    "ja": "今日は天気がいいので、川のそばを散歩しました。年を取った漁師が静かに魚を待っていました。"
    "夕方になると雨が降り始めたので、みんな家に帰りました。これは日本語の文章です。",
    "zh": "我们在这里学习如何处理大量的中文文本，这是一个很长的句子。老渔夫静静地坐在河边等着鱼。"
    "到了晚上开始下雨，所以大家都回家了，雾气笼罩着田野。",
    "zh-hant": "我們在這裡學習如何處理大量的中文文本，這是一個很長的句子。老漁夫靜靜地坐在河邊等著魚。"
    "到了晚上開始下雨，所以大家都回家了，霧氣籠罩著田野。",
    "ko": "우리는 여기에서 많은 양의 한국어 텍스트를 처리하는 방법을 배웁니다. 늙은 어부는 조용히 강가에 앉아 "
    "물고기를 기다렸습니다. 저녁에 비가 내리기 시작해서 모두 집으로 돌아갔습니다.",
    "hi": "बूढ़ा मछुआरा नदी के किनारे बैठा और मछलियों की प्रतीक्षा करता रहा। शाम को सब लोग घर लौट गए क्योंकि बारिश शुरू हो गई थी।",
    "emoji": "Ducks 🦆 and a family 👨‍👩‍👧 in the water, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 beyond the basic plane, and a flag 🇩🇪.",
}

# Encodings without a byte order mark, each with languages that it is used for.
LEGACY = [
    ("cp1250", ["pl", "cs", "hu"]),
    ("cp1251", ["ru", "uk", "bg"]),
    ("cp1252", ["de", "fr"]),
    ("cp1253", ["el"]),
    ("cp1254", ["tr"]),
    ("cp1255", ["he"]),
    ("cp1256", ["ar"]),
    ("cp1257", ["lt", "lv"]),
    ("iso8859-1", ["de", "fr"]),
    ("iso8859-2", ["pl", "cs", "hu"]),
    ("iso8859-5", ["ru"]),
    ("iso8859-7", ["el"]),
    ("iso8859-8", ["he"]),
    ("iso8859-9", ["tr"]),
    ("koi8-r", ["ru"]),
    ("koi8-u", ["uk"]),
    ("cp866", ["ru"]),
    ("tis-620", ["th"]),
    ("cp874", ["th"]),
    ("shift_jis", ["ja"]),
    ("cp932", ["ja"]),
    ("euc_jp", ["ja"]),
    ("iso2022_jp", ["ja"]),
    ("gb2312", ["zh"]),
    ("gbk", ["zh"]),
    ("gb18030", ["zh"]),
    ("big5", ["zh-hant"]),
    ("cp950", ["zh-hant"]),
    ("euc_kr", ["ko"]),
    ("cp949", ["ko"]),
]


def sentence(rng, languages=("en", "de", "ru", "ja", "emoji")):
    """A few words of one language, now and then of several lines."""
    words = SENTENCES[rng.choice(languages)].split(" ")
    words = [rng.choice(words) for _ in range(rng.randint(3, 9))]
    text = " ".join(words).strip()
    return text.replace(" ", "\n", 1) if rng.random() < 0.15 else text


def answer(documents, faults=False, **more):
    documents = [document if isinstance(document, dict) else {"text": document} for document in documents]
    return {"documents": documents, "faults": faults, **more}


def text(rng):
    """Each file is one document: what Python decodes, without the byte order mark."""
    number = 0

    def case(label, data, text, extension=None, **more):
        nonlocal number
        number += 1
        extension = extension or rng.choice([".txt", ".text", ".md", ".rst", ".markdown"])
        name = f"{number:03}-{label}{extension}"
        return name, data, answer([text] if text.strip() else [], faults=not text.strip(), **more)

    for language, text in SENTENCES.items():
        yield case(f"utf8-{language}", text.encode(), text)
    for codec, mark in [
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-32-be", codecs.BOM_UTF32_BE),
        ("utf-8", codecs.BOM_UTF8),
    ]:
        for language in ["en", "ru", "zh", "emoji"]:
            text = SENTENCES[language]
            yield case(f"mark-{codec}-{language}", mark + text.encode(codec), text)
    for codec in ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]:
        for language in ["en", "ru", "el", "th", "ja", "zh"]:
            # Line breaks are what tells UTF-16 in other scripts.
            text = SENTENCES[language].replace(". ", ".\n").replace("。", "。\n")
            yield case(f"bare-{codec}-{language}", text.encode(codec), text)
    for codec, languages in LEGACY:
        for language in languages:
            text = SENTENCES[language]
            data = text.encode(codec, errors="ignore")
            yield case(f"{codec}-{language}", data, data.decode(codec))
    english = SENTENCES["en"]
    for label, text in [
        ("crlf", english.replace(". ", ".\r\n") + "\r\n"),
        ("cr", english.replace(". ", ".\r")),
        ("blank-lines", "\n\n" + english + "\n\n\n" + english + "\n\n"),
        ("separators", "one\u2028two\u2029three\x85four\x0bfive\x0csix"),
        ("inner-mark", "one\ufefftwo\n\ufeffthree"),
        ("two-marks", "\ufeff\ufeffone"),
        ("control", "one\x01two\x1b[31mthree\x1b[0m\x7f"),
        ("one-letter", "a"),
        ("one-umlaut", "ü"),
        ("white-space", " \t\r\n\u3000"),
        ("braces", "{ this is no JSON }\n[neither, this]"),
        ("angle", "a < b and <p>not a page"),
        ("front-matter", "---\ntitle: A\n---\n# Head\n\n* one\n* two\n\n```\ncode\n```\n"),
        ("noncharacters", "one\ufffetwo\uffffthree\U0010ffff"),
        ("replacement", "one\ufffdtwo"),
        ("private", "one\ue000two\U000f0000"),
        ("quoted", '"text","more"\n"a","b"\n'),
        ("long-line", "word " * 3000),
    ]:
        data = text.encode()
        yield case(label, data, data.decode("utf-8-sig"), ".txt")
    for label, text in [("plain", english), ("german", SENTENCES["de"]), ("japanese", SENTENCES["ja"])]:
        yield case(f"no-extension-{label}", text.encode(), text, "-README")
