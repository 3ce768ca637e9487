"""The error table of WhatsApp's Cloud API, for answers to a send and for receipts of failed messages alike.

The codes and their meanings are Meta's ("Error codes" of the Cloud API); what follows from each is decided here. What
concerns the number or the account stops the channel, what concerns the template or the text stops the campaign.
"""

from tallycast.providers.contract import Action, Rule
from tallycast.providers.refusals import STATUSES

_PERMISSION = Rule(
    Action.PAUSE_CHANNEL,
    "The access token may not send from this number. Give it the permission whatsapp_business_messaging, then resume.",
)
_SLOW_DOWN = Rule(
    Action.SLOW_DOWN, "The account makes too many requests. Messages go out slower by themselves."
)
_OUTAGE = Rule(
    Action.RETRY, "WhatsApp's service was away for a moment. The message is tried again by itself.", 10.0
)

ERRORS: dict[str, Rule] = {
    **STATUSES,
    **{str(code): _PERMISSION for code in (3, 10, *range(200, 300))},
    "0": Rule(
        Action.PAUSE_CHANNEL,
        "WhatsApp does not accept the access token. Put a valid one into the channel's credentials, then resume.",
    ),
    "1": Rule(
        Action.RETRY,
        "WhatsApp could not handle the request and does not say why. The message is tried again by itself.",
        10.0,
    ),
    "2": _OUTAGE,
    "4": _SLOW_DOWN,
    "33": Rule(
        Action.PAUSE_CHANNEL,
        "WhatsApp does not know the sending number any more. Check the channel's phone number id, then resume.",
    ),
    "100": Rule(
        Action.FAIL,
        "WhatsApp does not accept a value of the message. Compare its parameters with the template.",
    ),
    "190": Rule(
        Action.PAUSE_CHANNEL,
        "The access token has expired or was revoked. Put a new one into the channel's credentials, then resume.",
    ),
    "368": Rule(
        Action.PAUSE_CHANNEL,
        "WhatsApp has blocked the account for a while, for a breach of its policies. See WhatsApp Manager what to do.",
    ),
    "80007": _SLOW_DOWN,
    "130429": Rule(
        Action.SLOW_DOWN,
        "The number sends more a second than WhatsApp allows. Messages go out slower by themselves.",
    ),
    "130472": Rule(
        Action.FAIL,
        "WhatsApp holds marketing messages back from this recipient, in an experiment of its own. "
        "Repeating does not help, and nothing is billed.",
    ),
    "130497": Rule(
        Action.FAIL,
        "The account may not write to this recipient's country. Leave such numbers out, or ask WhatsApp for access.",
    ),
    "131000": Rule(
        Action.RETRY,
        "Something went wrong at WhatsApp, which does not say what. The message is tried again by itself.",
        10.0,
    ),
    "131005": _PERMISSION,
    "131008": Rule(
        Action.FAIL, "A parameter of the message is missing. Fill in all that the template asks for."
    ),
    "131009": Rule(
        Action.FAIL,
        "A parameter of the message has a value that WhatsApp does not take. Correct it in the audience.",
    ),
    "131016": _OUTAGE,
    "131021": Rule(Action.FAIL, "The recipient is the sending number itself. Take it out of the audience."),
    "131026": Rule(
        Action.FAIL,
        "The message cannot be delivered: the number is not on WhatsApp, has an old version, or has not accepted its "
        "terms. Reach this recipient by SMS.",
    ),
    "131030": Rule(
        Action.FAIL,
        "A test number writes only to its list of recipients. Add the recipient there, or use another number.",
    ),
    "131031": Rule(
        Action.PAUSE_CHANNEL,
        "WhatsApp has locked the account. Contact its support, and resume when it is unlocked.",
    ),
    "131037": Rule(
        Action.PAUSE_CHANNEL,
        "The number's display name is not approved yet. Wait for WhatsApp's approval, then resume.",
    ),
    "131042": Rule(
        Action.PAUSE_CHANNEL,
        "The account's payment method has a problem. Settle it in WhatsApp Manager, then resume.",
    ),
    "131045": Rule(
        Action.PAUSE_CHANNEL,
        "The number is not registered properly with WhatsApp. Register it again, then resume.",
    ),
    "131047": Rule(
        Action.FAIL,
        "The recipient has not written for more than 24 hours. Only a template reaches such a recipient.",
    ),
    "131048": Rule(
        Action.PAUSE_CHANNEL,
        "WhatsApp limits the number, since recipients blocked or reported its messages. Wait some hours, then resume.",
    ),
    "131049": Rule(
        Action.FAIL,
        "The recipient has had enough marketing messages, of all senders together. Do not repeat it within a day.",
    ),
    "131050": Rule(
        Action.OPT_OUT,
        "The recipient wants no marketing messages from this sender. They are left out from now on.",
    ),
    "131051": Rule(Action.FAIL, "WhatsApp does not know this kind of message. Use a template or a text."),
    "131052": Rule(
        Action.RETRY,
        "WhatsApp could not fetch the message's file. Check that its URL is public and answers.",
        60.0,
    ),
    "131053": Rule(
        Action.RETRY, "WhatsApp could not take the message's file. Check its type and size.", 60.0
    ),
    # Meta asks for 4^n seconds, n from 0.
    "131056": Rule(
        Action.RETRY,
        "The number writes to this recipient too often. The message is tried again by itself, later each time.",
        1.0,
        4.0,
    ),
    "131057": Rule(
        Action.RETRY,
        "WhatsApp is changing the account at the moment. The message is tried again in a minute.",
        60.0,
    ),
    "131062": Rule(
        Action.FAIL,
        "This kind of message cannot go to a recipient who is known by a user id only. A number is needed.",
    ),
    "131063": Rule(
        Action.PAUSE_CAMPAIGN,
        "The account sends marketing templates only through the Marketing Messages API. Use another kind of template.",
    ),
    "131064": Rule(
        Action.PAUSE_CHANNEL,
        "WhatsApp limits the account, since its templates were in wrong categories. See WhatsApp Manager, then resume.",
    ),
    "132000": Rule(
        Action.FAIL, "The template has another number of parameters. Fill in exactly those that it asks for."
    ),
    "132001": Rule(
        Action.PAUSE_CAMPAIGN,
        "The template does not exist in this language, or is not approved. Choose an approved one.",
    ),
    "132005": Rule(
        Action.FAIL, "The text is too long with its parameters filled in. Shorten this recipient's values."
    ),
    "132007": Rule(
        Action.PAUSE_CAMPAIGN,
        "The template's content breaks a policy of WhatsApp. Correct the template, and have it approved.",
    ),
    "132008": Rule(
        Action.FAIL, "A parameter's value does not fit the template. Correct this recipient's values."
    ),
    "132012": Rule(
        Action.FAIL,
        "A parameter is of another kind than the template expects. Correct this recipient's values.",
    ),
    "132015": Rule(
        Action.PAUSE_CAMPAIGN,
        "WhatsApp has paused the template for its low quality. Resume when it is active again, or use another one.",
    ),
    "132016": Rule(
        Action.PAUSE_CAMPAIGN,
        "WhatsApp has disabled the template for good. Make a new template, and a campaign with it.",
    ),
    "132018": Rule(
        Action.FAIL,
        "A parameter holds what WhatsApp does not take, such as a line break. Correct this recipient's values.",
    ),
    "132068": Rule(Action.FAIL, "The template's flow is blocked. Correct the flow in WhatsApp Manager."),
    "132069": Rule(
        Action.RETRY,
        "The template's flow is used too often within the hour. The message is tried again later.",
        60.0,
    ),
    "133004": _OUTAGE,
    "133010": Rule(
        Action.PAUSE_CHANNEL, "The number is not registered with WhatsApp. Register it, then resume."
    ),
    "133016": Rule(
        Action.PAUSE_CHANNEL,
        "The number was registered too often in a short time. Wait until WhatsApp lets it register, then resume.",
    ),
    "135000": Rule(
        Action.FAIL, "WhatsApp could not make a message of the parameters. Compare them with the template."
    ),
    "137000": Rule(
        Action.FAIL,
        "The recipient's identity has changed since it was last confirmed. Confirm it before writing again.",
    ),
}

# Whoever says no more than this may have taken the message all the same, if the HTTP status says so too.
OPEN_CODES = frozenset({"1", "131000"})
