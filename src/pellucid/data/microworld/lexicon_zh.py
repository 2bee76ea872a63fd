"""The Chinese lexicon of the microworld: names, measure words, and wordings for every happening and every question.

It has the same parts as the English lexicon. `.the` is the bare noun, `.a` the noun after 一 and its measure word,
`.at` the location (在厨房里), `.inside` the same without 在, `.into` the destination (走进厨房, 走上阳台, 走到海边). The
wordings have the same order as the English ones and match them as closely as both languages allow; the last two of each
happening are held out of training.
"""

# ruff: noqa: SIM905  (word lists read better as text)

from __future__ import annotations

from pellucid.data.microworld import entities

PEOPLE = (
    "小梅 安娜 丽丽 艾玛 妮娜 小薇 秀英 佳佳 小雅 晓月 玉兰 莎莎 婷婷 静静 凯莉 露西 玛雅 欣欣 朵朵 美玲 小芳 雪儿 "
    "小明 小刚 志强 小龙 大伟 建国 小杰 阿福 小鹏 大卫 阿飞 浩浩 国栋 小军 文涛 乐乐 家豪 天宇 子轩 小雷 立新 宝柱"
).split()
# (name, what follows it when somebody is there, the verb for entering)
PLACES = {
    "kitchen": ("厨房", "里", "走进"), "garden": ("花园", "里", "走进"), "bedroom": ("卧室", "里", "走进"),
    "bathroom": ("浴室", "里", "走进"), "office": ("办公室", "里", "走进"), "garage": ("车库", "里", "走进"),
    "balcony": ("阳台", "上", "走上"), "attic": ("阁楼", "上", "走上"), "cellar": ("地下室", "里", "走进"),
    "library": ("图书馆", "里", "走进"), "museum": ("博物馆", "里", "走进"), "park": ("公园", "里", "走进"),
    "market": ("市场", "里", "走进"), "barn": ("谷仓", "里", "走进"), "station": ("车站", "", "走到"),
    "beach": ("海边", "", "走到"),
}  # fmt: skip
# name: noun, measure word
THINGS = {
    "key": "钥匙 把", "ring": "戒指 枚", "coin": "硬币 枚", "stamp": "邮票 枚", "spoon": "勺子 把", "fork": "叉子 把",
    "pen": "钢笔 支", "pencil": "铅笔 支", "comb": "梳子 把", "watch": "手表 块", "necklace": "项链 条",
    "whistle": "哨子 个", "bell": "铃铛 个", "shell": "贝壳 个", "feather": "羽毛 根", "ticket": "车票 张",
    "medal": "奖牌 块", "magnet": "磁铁 块", "egg": "鸡蛋 个", "lemon": "柠檬 个", "glove": "手套 只",
    "candle": "蜡烛 根", "postcard": "明信片 张", "stone": "石头 块", "carrot": "胡萝卜 根", "cup": "杯子 个",
    "book": "故事书 本", "apple": "苹果 个", "ball": "皮球 个", "clock": "闹钟 个", "hat": "帽子 顶",
    "scarf": "围巾 条", "umbrella": "雨伞 把", "map": "地图 张", "camera": "照相机 台", "radio": "收音机 台",
    "phone": "手机 部", "notebook": "笔记本 本", "newspaper": "报纸 份", "plate": "盘子 个", "bowl": "饭碗 个",
    "bottle": "瓶子 个", "towel": "毛巾 条", "mirror": "镜子 面", "brush": "刷子 把", "flute": "笛子 支",
    "kite": "风筝 只", "doll": "布娃娃 个", "robot": "机器人 个", "hammer": "锤子 把", "pear": "梨子 个",
    "peach": "桃子 个", "potato": "土豆 个", "tomato": "西红柿 个", "onion": "洋葱 个", "cake": "蛋糕 块",
    "rose": "玫瑰 朵", "flag": "旗子 面", "brick": "砖头 块", "balloon": "气球 个", "knife": "小刀 把",
    "lamp": "台灯 盏", "coat": "外套 件", "kettle": "水壶 把", "pan": "平底锅 口", "pillow": "枕头 个",
    "blanket": "毯子 条", "drum": "小鼓 面", "guitar": "吉他 把", "violin": "小提琴 把", "rope": "绳子 根",
    "shovel": "铲子 把", "broom": "扫帚 把",
    "jar": "罐子 个", "tin": "铁盒 个", "pouch": "布袋 个", "purse": "钱包 个", "box": "纸箱 个", "basket": "篮子 个",
    "bag": "提包 个", "bucket": "水桶 个", "backpack": "背包 个", "suitcase": "行李箱 个", "chest": "木箱 个",
    "crate": "板条箱 个",
}  # fmt: skip
COLOURS = "红色 蓝色 绿色 黄色 白色 黑色 棕色 紫色".split()
DAYS = "星期一 星期二 星期三 星期四 星期五 星期六 星期日".split()
NUMBERS = "零 一 两 三 四 五 六 七 八 九 十".split()
DAY_OPENING = "{day}，{sentence}"
UNKNOWN = {
    entities.NOBODY: ("没有人。", "没人。"),
    entities.NOBODY_KNOWS: ("没有人知道。", "没人知道。"),
    entities.NO_IDEA: ("不知道。",),
    entities.NOTHING: ("什么也没有。", "什么都没有。"),
}

HAPPENINGS = {
    "move": (
        "{P}去了{L.the}。",
        "{P}{L.into}。",
        "{P}跑到了{L.the}。",
        "{P}赶到了{L.the}。",
        "{P}来到了{L.the}。",
        "{P}到了{L.the}。",
        "{P}到{L.the}去了。",
        "{P}溜达到了{L.the}。",
        "{P}赶到{L.the}去了。",
        "{P}溜达到{L.the}去了。",
    ),
    "lie": (
        "{L.inside}有{T.a}。",
        "{L.inside}放着{T.a}。",
        "{L.inside}摆着{T.a}。",
        "有{T.a}放{L.at}。",
        "有人把{T.a}留{L.at}了。",
        "有人看到{L.inside}有{T.a}。",
        "有人把{T.a}放{L.at}了。",
        "有人在{L.inside}放了{T.a}。",
        "有人看到{L.inside}放着{T.a}。",
        "有{T.a}摆{L.at}。",
    ),
    "take": (
        "{P}拿了{T.the}。",
        "{P}捡起了{T.the}。",
        "{P}拿起了{T.the}。",
        "{P}把{T.the}拿在手里。",
        "{P}拿到了{T.the}。",
        "{P}带上了{T.the}。",
        "{P}把{T.the}拿了起来。",
        "{T.the}被{P}拿了起来。",
        "{P}把{T.the}捡了起来。",
        "{T.the}被{P}捡了起来。",
    ),
    "drop": (
        "{P}丢下了{T.the}。",
        "{P}放下了{T.the}。",
        "{P}把{T.the}放下了。",
        "{T.the}被{P}放下了。",
        "{P}把{T.the}留在了那里。",
        "{P}把{T.the}放在地上。",
        "{P}把{T.the}放在了那里。",
        "{P}把{T.the}丢在地上。",
        "{P}把{T.the}丢在了那里。",
        "{T.the}被{P}放在地上。",
    ),
    "put": (
        "{P}把{T.the}放进了{O.the}。",
        "{P}把{T.the}放到了{O.the}里。",
        "{P}把{T.the}收进了{O.the}。",
        "{P}把{T.the}装进了{O.the}。",
        "{P}往{O.the}里放了{T.a}。",
        "{P}把{T.the}塞进了{O.the}。",
        "{P}把{T.the}藏在{O.the}里。",
        "{T.the}被{P}放进了{O.the}。",
        "{T.the}被{P}装进了{O.the}。",
        "{P}把{T.the}藏进了{O.the}。",
    ),
    "out": (
        "{P}从{O.the}里拿出了{T.the}。",
        "{P}从{O.the}里取出了{T.the}。",
        "{P}从{O.the}里掏出了{T.the}。",
        "{P}从{O.the}里找出了{T.the}。",
        "{P}把{T.the}从{O.the}里拿了出来。",
        "{P}把{T.the}从{O.the}里取了出来。",
        "{P}把{T.the}从{O.the}里找了出来。",
        "{T.the}被{P}从{O.the}里拿了出来。",
        "{P}把{T.the}从{O.the}里掏了出来。",
        "{T.the}被{P}从{O.the}里取了出来。",
    ),
    "give": (
        "{P}把{T.the}给了{O.the}。",
        "{P}把{T.the}送给了{O.the}。",
        "{P}把{T.the}递给了{O.the}。",
        "{P}把{T.the}交给了{O.the}。",
        "{P}把{T.the}交到了{O.the}手里。",
        "{O.the}从{P}那里得到了{T.the}。",
        "{O.the}从{P}手里接过了{T.the}。",
        "{T.the}被{P}送给了{O.the}。",
        "{P}把{T.the}递到了{O.the}手里。",
        "{O.the}从{P}那里接过了{T.the}。",
    ),
    "find": (
        "{P}找到了{N}。",
        "{P}买了{N}。",
        "{P}得到了{N}。",
        "{P}捡到了{N}。",
        "{P}拿了{N}。",
        "{P}收集了{N}。",
        "有人给了{P}{N}。",
        "{P}收到了{N}。",
        "有人送给{P}{N}。",
        "{P}买到了{N}。",
    ),
    "share": (
        "{P}给了{O.the}{N}。",
        "{P}送给{O.the}{N}。",
        "{P}分给{O.the}{N}。",
        "{P}拿出{N}给了{O.the}。",
        "{P}把{N}给了{O.the}。",
        "{P}把{N}送给了{O.the}。",
        "{O.the}从{P}那里得到了{N}。",
        "{O.the}从{P}那里拿了{N}。",
        "{P}把{N}分给了{O.the}。",
        "{P}拿出{N}送给了{O.the}。",
    ),
    "lose": (
        "{P}丢了{N}。",
        "{P}把{N}送人了。",
        "{P}扔掉了{N}。",
        "{P}把{N}扔了。",
        "{P}用掉了{N}。",
        "{P}卖掉了{N}。",
        "{P}弄丢了{N}。",
        "有人拿走了{P}的{N}。",
        "{P}把{N}用掉了。",
        "{P}把{N}卖掉了。",
    ),
}

STATES = {
    "is": "{P}{L.at}。",
    "lies": "{T.the}{L.at}。",
    "has": "{P}拿着{T.the}。",
}
QUESTIONS = {
    "where_person": ("{P}在哪儿？", "{P}现在在哪里？"),
    "where_thing": ("{T.the}在哪儿？", "{T.the}现在在哪里？"),
    "who_has": ("{T.the}在谁手里？", "谁拿着{T.the}？"),
    "where_before": ("去{L.the}之前，{P}在哪儿？", "{P}去{L.the}之前在哪里？"),
    "in_what": ("{T.the}装在什么里面？", "{T.the}在什么东西里面？"),
    "contents": ("{O.the}里有什么？", "{O.the}里装着什么？"),
    "colour": ("{P}手里的{T.bare}是什么颜色的？", "{P}有{T.a}，是什么颜色的？"),
    "who_gave": ("谁把{T.the}给了{O.the}？", "是谁把{T.the}给了{O.the}？"),
    "gave_whom": ("{P}把{T.the}给了谁？", "谁从{P}那里得到了{T.the}？"),
    "how_many": ("{P}有几{T.measure}{T.bare}？", "{P}现在有几{T.measure}{T.bare}？"),
    "believes": ("{P}觉得{T.the}在哪儿？", "{P}会去哪里找{T.the}？"),
    "who_saw_take": ("谁看到{P}拿起了{T.the}？", "{P}拿起{T.the}的时候谁看到了？"),
    "who_saw_drop": ("谁看到{P}放下了{T.the}？", "{P}放下{T.the}的时候谁看到了？"),
    "place_on_day": ("{D}{P}去了哪儿？", "{P}{D}去了哪里？"),
    "day_of_move": ("{P}是星期几去{L.the}的？", "{P}哪一天去了{L.the}？"),
    "day_of_take": ("{P}是星期几拿起{T.the}的？", "{P}哪一天拿起了{T.the}？"),
}
